//! The bytes of everything that is signed, stored or sent, as they were when the format was settled. And: no bytes
//! whatever make a decoder panic.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod licenses;
mod samples;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use samples::{members, partners};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tally_protocol::agreement::Agreement;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::codec;
use tally_protocol::coordinator::Fact;
use tally_protocol::countersignature::Countersignature;
use tally_protocol::delivery::Manifest;
use tally_protocol::entry::{ENTRY_BYTES_MAX, Entry};
use tally_protocol::id::NodeId;
use tally_protocol::invite::Invite;
use tally_protocol::issuer::IssuerCertificate;
use tally_protocol::license::{DeviceProof, License, StatusList};
use tally_protocol::message::announce::{Offer, RoleStatement};
use tally_protocol::message::blob::{BlobGrant, BlobReply, BlobRequest, HEADER_BYTES_MAX};
use tally_protocol::message::customer::{CUSTOMER_BYTES_MAX, CustomerReply, CustomerRequest};
use tally_protocol::message::enroll::{ENROLL_BYTES_MAX, EnrollReply, EnrollRequest};
use tally_protocol::message::log::{LOG_BYTES_MAX, LogReply, LogRequest};
use tally_protocol::message::reach::{REACH_BYTES_MAX, ReachReply, ReachRequest};
use tally_protocol::message::redeem::{REDEEM_BYTES_MAX, RedeemReply, RedeemRequest};
use tally_protocol::message::registry::{REGISTRY_BYTES_MAX, RegistryReply, RegistryRequest};
use tally_protocol::message::work::{Batch, Grant, WORK_BYTES_MAX, WorkReply, WorkRequest};
use tally_protocol::rate_card::RateCard;
use tally_protocol::receipt::Receipt;
use tally_protocol::redemption::{Redeem, Redemption, Reversal};
use tally_protocol::registration::{Enrolment, PointStatement, Registration, Revocation};
use tally_protocol::settlement::Settlement;
use tally_protocol::signed::{Signed, Statement};
use tally_protocol::task::Task;
use tally_protocol::voucher::Voucher;
use tally_protocol::witness::Witness;

/// What has golden bytes: a name, the bytes that are written today, and a reader.
struct Sample {
    name: String,
    bytes: Vec<u8>,
    read: fn(&[u8]) -> Result<Vec<u8>, String>,
}

#[test]
fn statements_are_signed_over_the_same_bytes_as_ever() {
    compare("statements", &statements());
}

/// Wallets keep grants for as long as their results are kept.
#[test]
fn a_grant_of_protocol_version_3_is_still_read() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/grant_3.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let hex = text.trim().strip_prefix("grant ").unwrap();
    let signed = Signed::<Grant>::from_bytes(HEXLOWER.decode(hex.as_bytes()).unwrap());
    let grant = signed.verify(&samples::network()).unwrap();
    let customer = NodeId::from_bytes([0; 32]);
    let expected = Grant {
        customer,
        ..samples::grant()
    };
    assert_eq!(grant.value(), &expected);
}

#[test]
fn entries_and_facts_are_stored_as_ever() {
    compare(
        "entries",
        &of("entry", samples::entries(), read::<Entry, ENTRY_BYTES_MAX>),
    );
    compare(
        "facts",
        &of("fact", samples::facts(), read::<Fact, { 1 << 30 }>),
    );
}

#[test]
fn what_a_witness_remembers_is_stored_as_ever() {
    compare("witness", &witness());
}

#[test]
fn messages_are_sent_as_ever() {
    compare("messages", &messages());
    let words = samples::words().into_iter();
    let words: Vec<Sample> = words
        .map(|(name, bytes)| Sample {
            name,
            bytes,
            read: |bytes| Ok(bytes.to_vec()),
        })
        .collect();
    compare("words", &words);
}

#[test]
fn checkpoints_and_log_proofs_are_written_as_ever() {
    let (checkpoint, proof) = (samples::checkpoint(), samples::log_proof());
    compare_text("checkpoint.note", checkpoint.signed().as_str());
    compare_text("entry.tlog-proof", &proof.to_string());
    let entry = codec::to_bytes(&samples::entries()[1].1);
    let checked = proof.verify(&entry, &samples::network());
    assert_eq!(checked, Ok(checkpoint));
}

#[test]
fn licenses_and_vouchers_are_written_as_ever() {
    compare_text("license.txt", &samples::sign(samples::license()).to_text());
    compare_text("voucher.txt", &samples::sign(samples::voucher()).to_text());
}

#[test]
fn no_cut_or_flipped_bit_of_a_sample_makes_a_reader_panic() {
    for sample in ALL.iter() {
        let step = sample.bytes.len().div_ceil(400);
        for place in (0..sample.bytes.len()).step_by(step) {
            assert!(
                (sample.read)(&sample.bytes[..place]).is_err(),
                "{} cut at {place}",
                sample.name
            );
            for bit in 0..8 {
                let mut changed = sample.bytes.clone();
                changed[place] ^= 1 << bit;
                drop((sample.read)(&changed));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for sample in ALL.iter() {
            drop((sample.read)(&bytes));
        }
    }

    #[test]
    fn no_mixture_of_samples_makes_a_reader_panic(
        one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let all = &*ALL;
        let (one, other) = (&all[one.index(all.len())], &all[other.index(all.len())]);
        let (from, to) = (from.index(one.bytes.len()), to.index(other.bytes.len()));
        let mixed = [&one.bytes[..from], &noise, &other.bytes[to..]].concat();
        drop((one.read)(&mixed));
        drop((other.read)(&mixed));
    }
}

#[test]
fn what_is_longer_than_its_bound_is_refused() {
    let long = codec::to_bytes(&vec![0_u8; 2 << 20]);
    for sample in ALL.iter().filter(|sample| !sample.name.starts_with("fact")) {
        assert!((sample.read)(&long).is_err(), "{}", sample.name);
    }
}

#[test]
fn the_statement_dissected_in_the_document_is_what_the_code_signs() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/formats.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, after) = text.split_once("```hex\n").unwrap();
    let (block, _) = after.split_once("```").unwrap();
    let hex: String = block
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::split_whitespace)
        .collect();
    let signed = samples::sign(samples::role());
    assert_eq!(
        hex,
        HEXLOWER.encode(signed.as_bytes()),
        "write docs/formats.md anew"
    );
}

/// Compares with the file, and reads what the file holds.
fn compare(file: &str, found: &[Sample]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{file}.txt"));
    let line = |sample: &Sample| format!("{} {}\n", sample.name, HEXLOWER.encode(&sample.bytes));
    if std::env::var_os("TALLY_GOLDEN").is_some_and(|how| how == "write") {
        std::fs::write(&path, found.iter().map(line).collect::<String>()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let golden: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    for sample in found {
        let expected = golden
            .get(sample.name.as_str())
            .copied()
            .unwrap_or("nothing");
        let bytes = HEXLOWER.encode(&sample.bytes);
        assert!(
            bytes == expected,
            "{} is written in another way than before:\n  before {expected}\n  now    {bytes}\n\
             Nodes of the version before cannot read it. If that is meant: raise PROTOCOL_VERSION (for stored bytes \
             the ledger's FORMAT), describe it in docs/formats.md, and write {} anew with \
             `TALLY_GOLDEN=write cargo test --release -p tally-protocol --test golden`.",
            sample.name,
            path.display(),
        );
        let read = (sample.read)(&sample.bytes);
        assert_eq!(
            read.as_ref(),
            Ok(&sample.bytes),
            "{} reads itself",
            sample.name
        );
    }
    assert_eq!(
        golden.len(),
        found.len(),
        "{}: each line has its sample",
        path.display()
    );
}

/// Compares a text with the file that holds it.
fn compare_text(file: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{file}"));
    if std::env::var_os("TALLY_GOLDEN").is_some_and(|how| how == "write") {
        std::fs::write(&path, found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, found, "{}", path.display());
}

static ALL: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let mut all = statements();
    all.extend(of(
        "entry",
        samples::entries(),
        read::<Entry, ENTRY_BYTES_MAX>,
    ));
    all.extend(of("fact", samples::facts(), read::<Fact, { 1 << 30 }>));
    all.extend(witness());
    all.extend(messages());
    all
});

fn statements() -> Vec<Sample> {
    fn one<T: Statement + Clone>(name: &str, value: &T) -> Sample {
        let bytes = samples::sign(value.clone()).as_bytes().to_vec();
        Sample {
            name: name.to_owned(),
            bytes,
            read: verify::<T>,
        }
    }
    vec![
        one::<Task>("task", &samples::task()),
        one::<Offer>("offer", &samples::offer()),
        one::<RoleStatement>("role", &samples::role()),
        one::<BlobGrant>("blob_grant", &samples::blob_grant()),
        one::<Batch>("batch", &samples::batch()),
        one::<Grant>("grant", &samples::grant()),
        one::<RateCard>("rate_card", &samples::rate_card()),
        one::<Receipt>("receipt", &samples::receipt()),
        one::<DeviceCertificate>("device_certificate", &samples::certificate()),
        one::<IssuerCertificate>("issuer_certificate", &samples::issuer_certificate()),
        one::<License>("license", &samples::license()),
        one::<StatusList>("status_list", &samples::status_list()),
        one::<DeviceProof>("device_proof", &samples::device_proof()),
        one::<Voucher>("voucher", &samples::voucher()),
        one::<Agreement>("agreement", &partners::agreement()),
        one::<Countersignature>("countersignature", &partners::countersignature()),
        one::<Enrolment>("enrolment", &partners::enrolment()),
        one::<Registration>("registration", &partners::registration()),
        one::<Revocation>("revocation", &partners::revocation()),
        one::<PointStatement>("point_statement", &partners::point_statement()),
        one::<Redeem>("redeem", &partners::redeem()),
        one::<Redemption>("redemption", &partners::redemption()),
        one::<Reversal>("reversal", &partners::reversal()),
        one::<Settlement>("settlement", &partners::settlement()),
        one::<Invite>("invite", &members::invite()),
        one::<Manifest>("manifest", &members::manifest()),
    ]
}

fn witness() -> Vec<Sample> {
    vec![Sample {
        name: "witness".to_owned(),
        bytes: samples::witness().saved(),
        read: |bytes| {
            let restored = Witness::restore(samples::stranger(), &samples::network(), bytes);
            let restored = restored.map_err(|error| error.to_string())?;
            Ok(restored.saved())
        },
    }]
}

fn messages() -> Vec<Sample> {
    let mut all = messages_of_partners();
    all.extend(of(
        "work_request",
        samples::work_requests(),
        read::<WorkRequest, WORK_BYTES_MAX>,
    ));
    all.extend(of(
        "work_reply",
        samples::work_replies(),
        read::<WorkReply, WORK_BYTES_MAX>,
    ));
    all.extend(of(
        "customer_request",
        samples::customer_requests(),
        read::<CustomerRequest, CUSTOMER_BYTES_MAX>,
    ));
    all.extend(of(
        "customer_reply",
        samples::customer_replies(),
        read::<CustomerReply, CUSTOMER_BYTES_MAX>,
    ));
    all.extend(of(
        "blob_request",
        samples::blob_requests(),
        read::<BlobRequest, HEADER_BYTES_MAX>,
    ));
    all.extend(of(
        "blob_reply",
        samples::blob_replies(),
        read::<BlobReply, HEADER_BYTES_MAX>,
    ));
    all.extend(of(
        "log_request",
        samples::log_requests(),
        read::<LogRequest, LOG_BYTES_MAX>,
    ));
    all.extend(of(
        "log_reply",
        samples::log_replies(),
        read::<LogReply, LOG_BYTES_MAX>,
    ));
    all.extend(of(
        "reach_request",
        samples::reach_requests(),
        read::<ReachRequest, REACH_BYTES_MAX>,
    ));
    all.extend(of(
        "reach_reply",
        samples::reach_replies(),
        read::<ReachReply, REACH_BYTES_MAX>,
    ));
    all
}

fn messages_of_partners() -> Vec<Sample> {
    let mut all = Vec::new();
    all.extend(of(
        "registry_request",
        partners::registry_requests(),
        read::<RegistryRequest, REGISTRY_BYTES_MAX>,
    ));
    all.extend(of(
        "registry_reply",
        partners::registry_replies(),
        read::<RegistryReply, REGISTRY_BYTES_MAX>,
    ));
    all.extend(of(
        "redeem_request",
        partners::redeem_requests(),
        read::<RedeemRequest, REDEEM_BYTES_MAX>,
    ));
    all.extend(of(
        "redeem_reply",
        partners::redeem_replies(),
        read::<RedeemReply, REDEEM_BYTES_MAX>,
    ));
    all.extend(of(
        "enroll_request",
        members::enroll_requests(),
        read::<EnrollRequest, ENROLL_BYTES_MAX>,
    ));
    all.extend(of(
        "enroll_reply",
        members::enroll_replies(),
        read::<EnrollReply, ENROLL_BYTES_MAX>,
    ));
    all
}

fn of<T: Serialize>(
    kind: &str,
    values: Vec<(&str, T)>,
    read: fn(&[u8]) -> Result<Vec<u8>, String>,
) -> Vec<Sample> {
    let sample = |(name, value): (&str, T)| Sample {
        name: format!("{kind}.{name}"),
        bytes: codec::to_bytes(&value),
        read,
    };
    values.into_iter().map(sample).collect()
}

/// Reads a value and writes it again.
fn read<T: Serialize + DeserializeOwned + Debug, const BYTES_MAX: usize>(
    bytes: &[u8],
) -> Result<Vec<u8>, String> {
    let value: T = codec::from_bytes(bytes, BYTES_MAX).map_err(|error| error.to_string())?;
    Ok(codec::to_bytes(&value))
}

fn verify<T: Statement>(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let verified = Signed::<T>::from_bytes(bytes.to_vec()).verify(&samples::network());
    let verified = verified.map_err(|error| error.to_string())?;
    assert_eq!(
        verified.payload(),
        codec::to_bytes(verified.value()),
        "only what was signed verifies"
    );
    Ok(verified.signed().as_bytes().to_vec())
}
