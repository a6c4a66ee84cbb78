//! Content from one node to another over loopback, beside what the same transport does with bytes that nobody checks.
//!
//! Both nodes are in this process, and so are the two swarms of the raw transport. Rounds of all alternate; the
//! medians count.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tally_node::blobs::{self, Access, BlobStore, ServeLimits, StoreLimits};
use tally_node::folder::Folder;
use tally_node::keys;
use tally_node::network::{Network, NetworkConfig, NetworkEvent, NetworkLimits};
use tally_protocol::id::NetworkId;
use tally_protocol::message::blob::BlobRange;
use tally_protocol::task::BlobRef;
use tokio::sync::mpsc;

use crate::raw::Raw;
use crate::report::{Report, quantile};
use crate::world::{LISTEN, NETWORK};
use crate::{Options, progress};

/// Bytes of the blob.
const BYTES: u64 = 256 << 20;
/// Rounds.
const ROUNDS: u32 = 5;
/// How long a node may take to listen.
const START_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn measure(options: &Options) -> Result<Report> {
    let goal = ">= 0.7 x the raw transport";
    let mut report = Report::new("blob", goal);
    let folder = tempfile::Builder::new()
        .prefix("tally-bench-")
        .tempdir_in(&options.dir)?;
    let (holder, mut heard) = End::start(&folder.path().join("holder"), Some(LISTEN))?;
    let (reader, _) = End::start(&folder.path().join("reader"), None)?;
    let address = tokio::time::timeout(START_MAX, async {
        loop {
            match heard.recv().await {
                Some(NetworkEvent::Listening(address)) => return Ok(address),
                Some(_) => {}
                None => bail!("start a node: it has ended"),
            }
        }
    });
    let address = address.await.context("start a node")??;
    let from = reader.network.dial(address).await?;
    let mut raw = Raw::start().await?;
    raw.read(BYTES / 8).await?;
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..options.units.unwrap_or(ROUNDS) {
        progress(&format!("blob: round {}", round + 1));
        let blob = holder.fill(round)?;
        holder.access.allow_reader(blob.id, reader.network.me());
        rates[0].push(rate(raw.read(BYTES).await?));
        let start = Instant::now();
        blobs::fetch(&reader.network, &reader.store, from, blob, None, |_| {}).await?;
        rates[1].push(rate(start.elapsed()));
        let start = Instant::now();
        let range = BlobRange {
            blob: blob.id,
            start: 0,
            bytes: BYTES,
        };
        let content = blobs::read_range(&reader.network, from, range, None).await?;
        rates[2].push(rate(start.elapsed()));
        drop(content);
        holder.store.remove(blob.id)?;
        reader.store.remove(blob.id)?;
    }
    for (name, mut values) in ["raw", "to_store", "to_memory"].iter().zip(rates) {
        values.sort_by(f64::total_cmp);
        report.add(&format!("mb_per_s_{name}"), quantile(&values, 0.5));
    }
    let ours = |name: &str| report.ours[name];
    let raw = ours("mb_per_s_raw");
    let ratios =
        ["to_store", "to_memory"].map(|name| (name, ours(&format!("mb_per_s_{name}")) / raw));
    for (name, ratio) in ratios {
        report.ratio.insert(name.to_owned(), ratio);
    }
    holder.network.shutdown().await;
    reader.network.shutdown().await;
    Ok(report)
}

/// A node that has no role but content.
struct End {
    network: Network,
    store: BlobStore,
    access: Access,
}

impl End {
    fn start(
        path: &std::path::Path,
        listen: Option<&str>,
    ) -> Result<(Self, mpsc::Receiver<NetworkEvent>)> {
        let folder = Folder::open(path)?;
        let key = keys::create(&folder.key())?;
        let me = keys::node_id(&key);
        let name: NetworkId = NETWORK.parse()?;
        let (network, events) = Network::start(NetworkConfig {
            key,
            network: name.clone(),
            roles: Vec::new(),
            listen: listen
                .into_iter()
                .map(str::parse)
                .collect::<Result<_, _>>()?,
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: false,
            saved_peers: None,
            limits: NetworkLimits::default(),
        })?;
        let limits = StoreLimits {
            bytes_max: 8 * BYTES,
        };
        let store = BlobStore::open(&folder.blobs(), limits)?;
        let access = Access::new(me, name);
        let stores = vec![store.clone()];
        let _serving = blobs::serve(&network, stores, access.clone(), ServeLimits::default());
        let end = Self {
            network,
            store,
            access,
        };
        Ok((end, events))
    }

    /// Stores a blob that differs from round to round.
    fn fill(&self, round: u32) -> Result<BlobRef> {
        let mut content = vec![0; usize::try_from(BYTES)?];
        for (number, piece) in (0_u64..).zip(content.chunks_exact_mut(1 << 10)) {
            piece[..8].copy_from_slice(&number.to_le_bytes());
            piece[8..12].copy_from_slice(&round.to_le_bytes());
        }
        Ok(self.store.put(&content)?)
    }
}

fn rate(time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let megabytes = BYTES as f64 / 1e6;
    megabytes / time.as_secs_f64()
}
