//! What a coordinator proves of its log, asked over the network and read by a program that knows nothing of Tally.

use std::path::{Path, PathBuf};
use std::process::Command;

use tally_node::keys;
use tally_protocol::checkpoint::log_proof::LogProof;
use tally_protocol::checkpoint::note::NoteKey;
use tally_protocol::checkpoint::{Origin, VerifiedCheckpoint};
use tally_protocol::entry::{ENTRY_BYTES_MAX, Entry};
use tally_protocol::id::NodeId;
use tally_protocol::merkle::proof::verify_consistency;
use tally_protocol::merkle::{self, TreeHead, leaf_hash};
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::TaskStatus;
use tally_protocol::message::log::{LogReply, LogRequest};
use tally_tests::job::Job;
use tally_tests::net::Net;
use tally_tests::raw::{RawPeer, network};

use crate::net;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_knows_nothing_of_tally_believes_what_the_log_proves_and_nothing_else() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let terminal = net.start_terminal("terminal");
    let job = Job::builtin("wordcount").text("a b\nc\nd e f").agree(1);
    let status: TaskStatus = net.submit("customer", &job).wait().done().json();
    let log = Log {
        peer: RawPeer::join(&coordinator.address(), &[]).await,
        of: coordinator.id(),
    };
    let head = log.head().await;
    let size = head.head().size;
    assert!(size >= 3, "accepted, validated, ended");
    let reader = Reader::new(&net, &head);
    let checkpoint = net.write("head.note", head.signed().as_str());
    let told = reader
        .read("checkpoint", reader.key_of(log.of), &checkpoint)
        .unwrap();
    assert_eq!(
        told,
        format!("{} {size} {}\n", reader.origin(log.of), head.head().root)
    );

    let mut leaves = Vec::new();
    for sequence in 0..size {
        let (entry, proof) = log.prove(sequence, &head).await;
        let said: Entry = tally_protocol::codec::from_bytes(&entry, ENTRY_BYTES_MAX).unwrap();
        assert_eq!(said.sequence, sequence);
        leaves.push(leaf_hash(&entry));
        assert_eq!(proof.verify(&entry, &network()).as_ref(), Ok(&head));
        let told = reader.prove(&entry, &proof.to_string()).unwrap();
        assert_eq!(
            told,
            format!("{} {size} {sequence}\n", reader.origin(log.of))
        );
    }
    for from in 0..=size {
        let smaller = TreeHead {
            size: from,
            root: merkle::root(leaves.iter().copied().take(usize::try_from(from).unwrap())),
        };
        let asked = LogRequest::Consistency { from, to: size };
        let LogReply::Consistency(path) = log.ask(asked).await else {
            panic!("no proof from {from} to {size}");
        };
        assert_eq!(verify_consistency(&smaller, &head.head(), &path), Ok(()));
    }
    refuses_the_rest(&reader, &log, &head).await;

    for request in [
        LogRequest::Inclusion {
            sequence: size,
            size,
        },
        LogRequest::Inclusion {
            sequence: 0,
            size: size + 1,
        },
        LogRequest::Consistency {
            from: size,
            to: size + 1,
        },
        LogRequest::Consistency { from: 2, to: 1 },
        LogRequest::Inclusion {
            sequence: u64::MAX,
            size: u64::MAX,
        },
    ] {
        let unknown = LogReply::Refused(Refusal::UnknownEntry);
        assert_eq!(log.ask(request).await, unknown);
    }
    assert_eq!(status.summary.done, 3);
    terminal.stop();
}

/// A node without a log says so.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_coordinator_has_no_log() {
    let mut net = net();
    let mut bootstrap = net.start_bootstrap();
    let log = Log {
        peer: RawPeer::join(&bootstrap.address(), &[]).await,
        of: bootstrap.id(),
    };
    let wrong_role = LogReply::Refused(Refusal::WrongRole);
    assert_eq!(log.ask(LogRequest::Head).await, wrong_role);
}

/// Shows that a flipped byte anywhere, another index, another root and another key are refused.
async fn refuses_the_rest(reader: &Reader, log: &Log, head: &VerifiedCheckpoint) {
    let (entry, proof) = log.prove(1, head).await;
    let text = proof.to_string();
    let refused = |entry: &[u8], text: &str, why: &str| {
        let said = reader.prove(entry, text).unwrap_err();
        assert!(said.contains(why), "{said}");
    };
    let mut flipped = entry.clone();
    flipped[entry.len() / 2] ^= 1;
    refused(&flipped, &text, "do not give the root");
    // One byte of each line of the proof and of the checkpoint.
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut bytes = text.clone().into_bytes();
        bytes[start + line.len() / 2] ^= 1;
        start += line.len();
        let path = reader.root.join("changed.tlog-proof");
        std::fs::write(&path, bytes).unwrap();
        let said = reader.read_proof(&entry, &path).unwrap_err();
        assert!(said.contains("refused"), "{line:?}: {said}");
    }
    refused(
        &entry,
        &text.replace("index 1\n", "index 0\n"),
        "do not give the root",
    );
    refused(
        &entry,
        &text.replace("index 1\n", "index 99\n"),
        "beyond the end",
    );

    // The log itself signs another root.
    let key = keys::read(&reader.root.join("coordinator/key")).unwrap();
    let other = TreeHead {
        root: leaf_hash(b"another"),
        ..head.head()
    };
    let wrong_root = LogProof {
        checkpoint: VerifiedCheckpoint::sign(other, &network(), &key)
            .signed()
            .clone(),
        ..proof
    };
    refused(&entry, &wrong_root.to_string(), "do not give the root");

    // Somebody else signs the right one, in his name and in that of the log.
    let stranger = &log.peer.key;
    let checkpoint = VerifiedCheckpoint::sign(head.head(), &network(), stranger);
    let strangers = net_file(reader, "strangers.note", checkpoint.signed().as_str());
    let said = reader
        .read("checkpoint", reader.key_of(log.of), &strangers)
        .unwrap_err();
    assert!(said.contains("the key has not signed"), "{said}");
    let mine = net_file(reader, "head.note", head.signed().as_str());
    let said = reader
        .read("checkpoint", reader.key_of(log.peer.id()), &mine)
        .unwrap_err();
    assert!(said.contains("the key has not signed"), "{said}");
    let (forged_text, _) = head.signed().as_str().split_once("\n\n").unwrap();
    let posing = tally_protocol::checkpoint::note::sign(
        &format!("{forged_text}\n"),
        &reader.origin(log.of),
        stranger,
    );
    let posing = net_file(reader, "posing.note", &posing);
    assert!(
        reader
            .read("checkpoint", reader.key_of(log.of), &posing)
            .is_err()
    );
}

fn net_file(reader: &Reader, name: &str, text: &str) -> PathBuf {
    let path = reader.root.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The log of a node, asked by a peer.
struct Log {
    peer: RawPeer,
    of: NodeId,
}

impl Log {
    async fn ask(&self, request: LogRequest) -> LogReply {
        self.peer.network.ask_log(self.of, request).await.unwrap()
    }

    async fn head(&self) -> VerifiedCheckpoint {
        let LogReply::Head(head) = self.ask(LogRequest::Head).await else {
            panic!("a coordinator tells its head");
        };
        let head = head.verify(&network()).unwrap();
        assert_eq!(head.log(), self.of);
        head
    }

    /// Returns an entry, and its proof against `head`.
    async fn prove(&self, sequence: u64, head: &VerifiedCheckpoint) -> (Vec<u8>, LogProof) {
        let size = head.head().size;
        let asked = LogRequest::Inclusion { sequence, size };
        let LogReply::Inclusion(logged) = self.ask(asked).await else {
            panic!("entry {sequence} of {size} is there");
        };
        let proof = LogProof {
            extra: None,
            index: sequence,
            path: logged.path,
            checkpoint: head.signed().clone(),
        };
        (logged.entry, proof)
    }
}

/// `tests/c2sp/reader.py`, which looks at files.
struct Reader {
    root: PathBuf,
    log: NodeId,
}

impl Reader {
    fn new(net: &Net, head: &VerifiedCheckpoint) -> Self {
        Self {
            root: net.root().to_owned(),
            log: head.log(),
        }
    }

    fn origin(&self, node: NodeId) -> String {
        let network = network();
        Origin { network, node }.to_string()
    }

    /// Returns the key of a log in the form that readers of signed notes take.
    fn key_of(&self, node: NodeId) -> String {
        let name = self.origin(node);
        let id = NoteKey::new(&name, node.as_bytes()).id();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = [&[1], &node.as_bytes()[..]].concat();
        format!("{name}+{id}+{}", data_encoding::BASE64.encode(&key))
    }

    fn prove(&self, entry: &[u8], proof: &str) -> Result<String, String> {
        let path = net_file(self, "entry.tlog-proof", proof);
        self.read_proof(entry, &path)
    }

    fn read_proof(&self, entry: &[u8], proof: &Path) -> Result<String, String> {
        let path = self.root.join("entry");
        std::fs::write(&path, entry).unwrap();
        let mut command = self.command("proof", &self.key_of(self.log));
        command.arg("--entry").arg(&path).arg(proof);
        run(command)
    }

    fn read(&self, kind: &str, key: String, file: &Path) -> Result<String, String> {
        let mut command = self.command(kind, &key);
        command.arg(file);
        run(command)
    }

    fn command(&self, kind: &str, key: &str) -> Command {
        let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("c2sp/reader.py");
        let mut command = Command::new("python3");
        // Nothing of the user's Python, and nothing written beside the source.
        command.arg("-IB").arg(reader).args([kind, "--key", key]);
        command
    }
}

/// Returns what the reader said, or why it refused.
fn run(mut command: Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    match output.status.code() {
        Some(0) => Ok(text(output.stdout)),
        Some(1) => Err(text(output.stderr)),
        _ => panic!("{command:?}: {}", text(output.stderr)),
    }
}
