//! An invitation to work for a product: what an app server gives to people who would enrol a computer.
//!
//! It only says where the app server is and what for: whoever has it can ask to be registered, which anybody can. It is
//! signed so that an address in it cannot be changed on the way.

use serde::{Deserialize, Serialize};

use crate::armour::Armoured;
use crate::id::{NetworkId, NodeId};
use crate::issuer::is_line;
use crate::message::announce::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use crate::product::ProductId;
use crate::signed::{Signed, Statement, Verified, VerifyError};
use crate::time::Timestamp;

/// "Come and work for this product": signed by the app server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Who invites.
    pub app_server: NodeId,
    /// Where it is reached, at most [`ADDRESSES_MAX`] addresses.
    pub addresses: Vec<String>,
    /// The product.
    pub product: ProductId,
    /// When it was made.
    pub issued: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
}

impl Statement for Invite {
    const TYPE: &'static str = "application/tally-invite+cbor";
    const BYTES_MAX: usize = 2 << 10;
}

impl Armoured for Invite {
    const LABEL: &'static str = "INVITE";
}

/// Why an invitation is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteFault {
    /// Its signature does not hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Who signed is not who invites, or an address is none.
    #[error("read the invitation: it was not made by the app server that it names")]
    Content,
    /// It has expired, or the clock is wrong.
    #[error("use the invitation: it held until {0}")]
    Expired(Timestamp),
}

impl Invite {
    /// Checks an invitation, whatever network it is for. Returns that network, which whoever takes it joins.
    ///
    /// # Errors
    /// [`InviteFault`].
    pub fn check(
        signed: Signed<Self>,
        now: Timestamp,
    ) -> Result<(NetworkId, Verified<Self>), InviteFault> {
        let network = signed.claimed_network()?;
        let invite = signed.verify(&network)?;
        let fits = invite.addresses.len() <= ADDRESSES_MAX
            && invite
                .addresses
                .iter()
                .all(|address| is_line(address, ADDRESS_BYTES_MAX));
        if invite.signer() != invite.app_server || !fits {
            return Err(InviteFault::Content);
        }
        if invite.expires <= now {
            return Err(InviteFault::Expired(invite.expires));
        }
        Ok((network, invite))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    fn invite(by: u8, addresses: Vec<String>) -> Signed<Invite> {
        let key = SigningKey::from_bytes(&[1; 32]);
        let app_server = NodeId::from_bytes(key.verifying_key().to_bytes());
        let invite = Invite {
            app_server,
            addresses,
            product: "photo".parse().unwrap(),
            issued: Timestamp::from_millis(1),
            expires: Timestamp::from_millis(10),
        };
        let signer = SigningKey::from_bytes(&[by; 32]);
        let network = "home".parse().unwrap();
        Verified::sign(invite, &network, &signer).signed().clone()
    }

    #[test]
    fn an_invitation_says_its_network_and_holds_for_a_time() {
        let signed = invite(1, vec!["/ip4/127.0.0.1/tcp/1".to_owned()]);
        let text = signed.to_text();
        let read = Signed::<Invite>::from_text(&text).unwrap();
        let (network, taken) = Invite::check(read, Timestamp::from_millis(9)).unwrap();
        assert_eq!(network.as_str(), "home");
        assert_eq!(taken.product.to_string(), "photo");
        let late = Invite::check(signed, Timestamp::from_millis(10));
        assert_eq!(late, Err(InviteFault::Expired(Timestamp::from_millis(10))));
    }

    #[test]
    fn an_invitation_of_somebody_else_or_with_too_many_addresses_is_refused() {
        let now = Timestamp::from_millis(2);
        assert_eq!(
            Invite::check(invite(2, Vec::new()), now),
            Err(InviteFault::Content)
        );
        let many = vec!["/ip4/127.0.0.1/tcp/1".to_owned(); ADDRESSES_MAX + 1];
        assert_eq!(
            Invite::check(invite(1, many), now),
            Err(InviteFault::Content)
        );
        let mut bytes = invite(1, Vec::new()).as_bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let changed = Invite::check(Signed::from_bytes(bytes), now);
        assert!(matches!(
            changed,
            Err(InviteFault::Verify(VerifyError::Signature { .. }))
        ));
    }
}
