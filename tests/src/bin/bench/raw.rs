//! The transport alone: two libp2p swarms with the same TCP, noise and yamux as a node, and streams over it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};

use crate::world::LISTEN;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/tally-bench/raw/1");
/// Bytes that are written and read at a time, as content is.
const PIECE_BYTES: usize = 32 << 10;

/// Two swarms, one of which sends whatever is asked for.
pub(crate) struct Raw {
    control: libp2p_stream::Control,
    sender: PeerId,
}

impl Raw {
    pub(crate) async fn start() -> Result<Self> {
        let mut sender = swarm()?;
        let peer = *sender.local_peer_id();
        sender.listen_on(LISTEN.parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = sender.select_next_some().await {
                break address;
            }
        };
        serve(&mut sender)?;
        tokio::spawn(drive(sender));
        let mut reader = swarm()?;
        reader.dial(address.with_p2p(peer).map_err(at_fault)?)?;
        let control = reader.behaviour().new_control();
        tokio::spawn(drive(reader));
        Ok(Self {
            control,
            sender: peer,
        })
    }

    /// Reads so many bytes and returns how long it took, opening the stream included.
    pub(crate) async fn read(&mut self, bytes: u64) -> Result<Duration> {
        let start = Instant::now();
        let mut stream = loop {
            // The connection may not be there yet.
            match self.control.open_stream(self.sender, PROTOCOL).await {
                Ok(stream) => break stream,
                Err(_) if start.elapsed() < Duration::from_secs(5) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error).context("open a stream"),
            }
        };
        let start = Instant::now();
        stream.write_all(&bytes.to_be_bytes()).await?;
        stream.flush().await?;
        let mut buffer = vec![0; PIECE_BYTES];
        let mut left = bytes;
        while left > 0 {
            let count = stream.read(&mut buffer).await?;
            ensure!(count > 0, "read {bytes} bytes: the stream ended early");
            left -= count as u64;
        }
        Ok(start.elapsed())
    }
}

fn swarm() -> Result<Swarm<libp2p_stream::Behaviour>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_behaviour(|_| libp2p_stream::Behaviour::new())?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}

/// Answers each stream with as many bytes as it asks for.
fn serve(swarm: &mut Swarm<libp2p_stream::Behaviour>) -> Result<()> {
    let mut streams = swarm.behaviour().new_control().accept(PROTOCOL)?;
    tokio::spawn(async move {
        while let Some((_, mut stream)) = streams.next().await {
            let send = async {
                let mut length = [0; 8];
                stream.read_exact(&mut length).await?;
                let mut left = u64::from_be_bytes(length);
                let piece = vec![7; PIECE_BYTES];
                while left > 0 {
                    let count = left.min(PIECE_BYTES as u64);
                    let part = usize::try_from(count).unwrap_or(PIECE_BYTES);
                    stream.write_all(&piece[..part]).await?;
                    left -= count;
                }
                stream.close().await
            };
            // The reader sees a stream that ends early.
            let _: std::io::Result<()> = send.await;
        }
    });
    Ok(())
}

async fn drive(mut swarm: Swarm<libp2p_stream::Behaviour>) {
    loop {
        let _ = swarm.select_next_some().await;
    }
}

fn at_fault(address: Multiaddr) -> anyhow::Error {
    anyhow::anyhow!("dial {address}: it names another peer")
}
