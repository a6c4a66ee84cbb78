//! `/tally/customer/1`: customer and coordinator.

use std::time::Duration;

use libp2p::StreamProtocol;
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{CUSTOMER_BYTES_MAX, CustomerReply, CustomerRequest};

use super::conversation::Conversation;

/// See [`tally_protocol::message::customer`].
#[derive(Debug, Clone)]
pub(super) struct Customer;

impl Conversation for Customer {
    type Request = CustomerRequest;
    type Reply = CustomerReply;
    const TOPIC: &'static str = "customer";
    const PROTOCOL: StreamProtocol = StreamProtocol::new("/tally/customer/1");
    const BYTES_MAX: usize = CUSTOMER_BYTES_MAX;
    // A watch is answered after up to 25 s.
    const TIMEOUT: Duration = Duration::from_secs(40);

    fn refused(refusal: Refusal) -> CustomerReply {
        CustomerReply::Refused(refusal)
    }

    fn refusal(reply: &CustomerReply) -> Option<&Refusal> {
        match reply {
            CustomerReply::Refused(refusal) => Some(refusal),
            CustomerReply::Status(_) | CustomerReply::Tasks(_) | CustomerReply::Terms(_) => None,
        }
    }
}
