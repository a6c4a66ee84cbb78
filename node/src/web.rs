//! Answering HTTP/1.1 without TLS: what the app server's interface and the owner's page have in common.
//!
//! Invariants: connections, requests, the head of each, and the time of both are bounded, as [`Bounds`] say; whoever goes
//! silent is let go; a server that is stopped takes nothing more, and waits a while for what is under way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long the head of a request may take, and a connection may be silent.
const HEAD_TIME_MAX: Duration = Duration::from_secs(20);
/// How long whoever reads an answer may not acknowledge a byte of it.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long requests may go on after the server was told to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// The pause after a connection that could not be accepted: files are short for a moment.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// How much a server takes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most connections: more wait until one ends.
    pub connections_max: usize,
    /// The most requests at a time: more are told that it is busy.
    pub requests_max: usize,
    /// How long the body of a request and its answer may take.
    pub request_time_max: Duration,
}

/// An address that is listened to, and not answered yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// A server, as long as it runs.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What a server says to whom it has no time for.
pub type Refuse = fn(&'static str) -> Response;

impl Listener {
    /// Starts to listen, within a tokio runtime; port 0 is any that is free.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers by `router`, which [`bounded`] has made, until the server is stopped.
    #[must_use]
    pub fn serve(self, router: Router, bounds: Bounds) -> Server {
        let Self { listener, address } = self;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, router, bounds, stopped));
        Server {
            address,
            stop,
            task,
        }
    }
}

impl Server {
    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits a while for those under way.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Has a router take requests only while there is room for them, and answer in time.
pub fn bounded<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    bounds: Bounds,
    refuse: Refuse,
) -> Router<S> {
    let room = Arc::new(Semaphore::new(bounds.requests_max));
    let gate = Gate {
        room,
        time_max: bounds.request_time_max,
        refuse,
    };
    router.layer(middleware::from_fn_with_state(gate, pass))
}

/// What every request passes.
#[derive(Debug, Clone)]
struct Gate {
    room: Arc<Semaphore>,
    time_max: Duration,
    refuse: Refuse,
}

async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Ok(_room) = gate.room.try_acquire() else {
        return (gate.refuse)("too many requests at a time");
    };
    let answered = timeout(gate.time_max, next.run(request)).await;
    answered.unwrap_or_else(|_| (gate.refuse)("the request or its answer took too long"))
}

async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    mut stopped: oneshot::Receiver<()>,
) {
    let room = Arc::new(Semaphore::new(bounds.connections_max));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = &mut stopped => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept an HTTP connection: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        prepare(&stream);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("an HTTP connection broke: {error}");
            }
            drop(permit);
        });
    }
    drop(listener);
    let _ = timeout(STOP_TIME_MAX, graceful.shutdown()).await;
}

/// Has the kernel end a connection whose reader has gone or stalls.
fn prepare(stream: &TcpStream) {
    let millis = u32::try_from(SILENCE_MAX.as_millis()).expect("a minute");
    let _ = sockopt::set_tcp_user_timeout(stream, millis);
    let _ = stream.set_nodelay(true);
}
