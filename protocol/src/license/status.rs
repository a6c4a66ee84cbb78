//! Status lists: which licenses of an issuer are suspended or revoked.
//!
//! One list has two bits for each license that the issuer has ever issued, as in the IETF's Token Status List: license
//! `i` stands in byte `i / 4`, at bits `2 * (i % 4)` and the one above. A list says nothing about whose licenses they are,
//! so anybody may carry it to the applications.
//!
//! Invariants: a list that ends before a license, or has the reserved value for it, says nothing about that license: it
//! neither revokes it nor makes its status fresh.

use serde::{Deserialize, Serialize};

use crate::armour::Armoured;
use crate::issuer::{FieldError, IssueError, Issued, Issuer, IssuerCertificate, counted};
use crate::signed::{Signed, Statement, Verified};
use crate::time::Timestamp;

/// The most bytes of a list: four million licenses. An application fetches the whole list.
pub const STATUS_BYTES_MAX: usize = 1 << 20;
/// Licenses in a byte.
const LICENSES_PER_BYTE: u32 = 4;

/// What an issuer says about its licenses at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusList {
    /// When.
    pub issued: Timestamp,
    /// Counts the lists of this app server, from 1.
    pub sequence: u64,
    /// Two bits a license.
    #[serde(with = "serde_bytes")]
    pub bits: Vec<u8>,
    /// The certificate of the key that signed it.
    pub issuer: Signed<IssuerCertificate>,
}

/// What an issuer may say about a license.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    Valid,
    /// It does not hold for now.
    Suspended,
    /// It does not hold any more.
    Revoked,
}

impl Statement for StatusList {
    const TYPE: &'static str = "application/tally-status-list+cbor";
    const BYTES_MAX: usize = STATUS_BYTES_MAX + (4 << 10);
}

impl Armoured for StatusList {
    const LABEL: &'static str = "STATUS LIST";
}

impl Issued for StatusList {
    fn issued(&self) -> Timestamp {
        self.issued
    }

    fn issuer(&self) -> &Signed<IssuerCertificate> {
        &self.issuer
    }

    fn check(&self) -> Result<(), FieldError> {
        let bytes = self.bits.len();
        counted("bits", bytes, 0..=STATUS_BYTES_MAX, "at most 1 MiB")
    }
}

impl StatusList {
    /// Issues the list with these bits. The same moment, sequence, bits and issuer give the same bytes.
    ///
    /// # Errors
    /// [`IssueError`] if there are too many bits or the issuer is not certified at that moment.
    pub fn issue(
        issued: Timestamp,
        sequence: u64,
        bits: Vec<u8>,
        issuer: &Issuer,
    ) -> Result<Verified<Self>, IssueError> {
        issuer.sign(Self {
            issued,
            sequence,
            bits,
            issuer: issuer.certificate().signed().clone(),
        })
    }

    /// Returns what the list says about the license at `index`; none if it says nothing.
    #[must_use]
    pub fn status(&self, index: u32) -> Option<Status> {
        let (byte, shift) = place(index);
        match self.bits.get(byte)? >> shift & 0b11 {
            0 => Some(Status::Valid),
            1 => Some(Status::Suspended),
            2 => Some(Status::Revoked),
            _ => None,
        }
    }
}

impl Status {
    /// Writes the status of the license at `index` into the bits of a list, which grows as needed.
    ///
    /// # Errors
    /// [`FieldError`] if no list can hold that index.
    pub fn set(self, bits: &mut Vec<u8>, index: u32) -> Result<(), FieldError> {
        let (byte, shift) = place(index);
        let bytes = bits.len().max(byte.saturating_add(1));
        counted("index", bytes, 1..=STATUS_BYTES_MAX, "below 2^22")?;
        bits.resize(bytes, 0);
        let value = match self {
            Self::Valid => 0,
            Self::Suspended => 1,
            Self::Revoked => 2,
        };
        bits[byte] = bits[byte] & !(0b11 << shift) | value << shift;
        Ok(())
    }
}

/// Returns the byte and the shift of the license at `index`.
const fn place(index: u32) -> (usize, u32) {
    let (byte, within) = (index / LICENSES_PER_BYTE, index % LICENSES_PER_BYTE);
    (byte as usize, 2 * within)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn list(bits: Vec<u8>) -> StatusList {
        StatusList {
            issued: Timestamp::default(),
            sequence: 1,
            bits,
            issuer: Signed::from_bytes(Vec::new()),
        }
    }

    #[test]
    fn two_bits_a_license_the_lowest_first() {
        let list = list(vec![0b11_10_01_00, 0b01]);
        let said: Vec<_> = (0..5).map(|index| list.status(index)).collect();
        let (suspended, revoked) = (Some(Status::Suspended), Some(Status::Revoked));
        assert_eq!(
            said,
            [Some(Status::Valid), suspended, revoked, None, suspended]
        );
        assert_eq!(list.status(8), None);
        assert_eq!(list.status(u32::MAX), None);
    }

    #[test]
    fn a_list_is_bounded() {
        let mut bits = Vec::new();
        assert!(Status::Valid.set(&mut bits, (1 << 22) - 1).is_ok());
        assert_eq!(bits.len(), STATUS_BYTES_MAX);
        let error = Status::Valid.set(&mut bits, 1 << 22).unwrap_err();
        assert_eq!(
            error.to_string(),
            "accept the field index: it must be below 2^22"
        );
        assert!(list(bits).check().is_ok());
        assert!(list(vec![0; STATUS_BYTES_MAX + 1]).check().is_err());
    }

    proptest! {
        #[test]
        fn the_last_word_about_a_license_counts(said in prop::collection::vec((0_u32..200, 0_usize..3), 0..300)) {
            let all = [Status::Valid, Status::Suspended, Status::Revoked];
            let (mut bits, mut last) = (Vec::new(), BTreeMap::new());
            for (index, which) in said {
                all[which].set(&mut bits, index).unwrap();
                last.insert(index, all[which]);
            }
            let list = list(bits);
            for index in (0..).take(list.bits.len() * 4) {
                let expected = last.get(&index).copied().unwrap_or(Status::Valid);
                prop_assert_eq!(list.status(index), Some(expected));
            }
        }
    }
}
