//! `/tally/registry/1`: app server and coordinator, about agreements, registrations and points.

use std::time::Duration;

use libp2p::StreamProtocol;
use tally_protocol::message::Refusal;
use tally_protocol::message::registry::{REGISTRY_BYTES_MAX, RegistryReply, RegistryRequest};

use super::conversation::Conversation;

/// See [`tally_protocol::message::registry`].
#[derive(Debug, Clone)]
pub(super) struct Registry;

impl Conversation for Registry {
    type Request = RegistryRequest;
    type Reply = RegistryReply;
    const TOPIC: &'static str = "registry";
    const PROTOCOL: StreamProtocol = StreamProtocol::new("/tally/registry/1");
    const BYTES_MAX: usize = REGISTRY_BYTES_MAX;
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn refused(refusal: Refusal) -> RegistryReply {
        RegistryReply::Refused(refusal)
    }

    fn refusal(reply: &RegistryReply) -> Option<&Refusal> {
        match reply {
            RegistryReply::Refused(refusal) => Some(refusal),
            RegistryReply::Agreement(_)
            | RegistryReply::Kept(_)
            | RegistryReply::Points(_)
            | RegistryReply::Settlement(_)
            | RegistryReply::Heard => None,
        }
    }
}
