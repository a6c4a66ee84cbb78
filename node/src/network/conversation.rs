//! Questions and answers: one stream each, both sides a length and as many bytes of CBOR.
//!
//! A question that is too long or not of this conversation is a value ([`Refusal::Malformed`]), not a broken stream:
//! the asker is told and the counter moves. The bytes are read and written by the task of the connection.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, StreamExt};
use libp2p::StreamProtocol;
use libp2p::request_response::{
    self, Event, Message, OutboundFailure, OutboundRequestId, ProtocolSupport, ResponseChannel,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tally_protocol::codec;
use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tokio::sync::oneshot;

use super::counters::Counters;
use super::peer::{node_of, peer_of};
use super::{Answer, AskError, NetworkLimits};

/// A protocol of questions and answers.
pub(super) trait Conversation: fmt::Debug + Clone + Send + Sync + 'static {
    /// What is asked.
    type Request: Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static;
    /// What is answered.
    type Reply: Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static;
    /// Its topic among the counters.
    const TOPIC: &'static str;
    /// Its libp2p protocol.
    const PROTOCOL: StreamProtocol;
    /// The largest message.
    const BYTES_MAX: usize;
    /// How long an answer may take.
    const TIMEOUT: Duration;

    /// Returns the answer no.
    fn refused(refusal: Refusal) -> Self::Reply;
    /// Returns why the answer is no, if it is.
    fn refusal(reply: &Self::Reply) -> Option<&Refusal>;
}

/// Streams of one conversation that one connection carries at a time.
const STREAMS_PER_CONNECTION_MAX: usize = 128;
/// Bytes of a message that are allocated on the word of its sender.
const TRUSTED_BYTES: usize = 64 << 10;

/// The libp2p behaviour of a conversation.
pub(super) type Talk<C> = request_response::Behaviour<Codec<C>>;
/// A question as it came in: understood, or why not.
pub(super) type Question<C> = Result<<C as Conversation>::Request, Refusal>;

/// An answer with its way back.
pub(super) type Answered<C> = (
    ResponseChannel<<C as Conversation>::Reply>,
    <C as Conversation>::Reply,
);

/// Returns the behaviour of the conversation `C`, which this node asks and answers in.
pub(super) fn talk<C: Conversation>(counters: Counters) -> Talk<C> {
    talk_as(ProtocolSupport::Full, counters)
}

/// Returns the behaviour of the conversation `C`, for one side of it or both.
pub(super) fn talk_as<C: Conversation>(support: ProtocolSupport, counters: Counters) -> Talk<C> {
    let config = request_response::Config::default()
        .with_request_timeout(C::TIMEOUT)
        .with_max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
    let codec = Codec {
        counters,
        conversation: PhantomData,
    };
    Talk::with_codec(codec, [(C::PROTOCOL, support)], config)
}

/// Reads and writes the messages of a conversation.
#[derive(Debug, Clone)]
pub(super) struct Codec<C> {
    counters: Counters,
    conversation: PhantomData<C>,
}

impl<C: Conversation> request_response::Codec for Codec<C> {
    type Protocol = StreamProtocol;
    type Request = Question<C>;
    type Response = C::Reply;

    async fn read_request<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        match self.read(io).await {
            Ok(request) => Ok(Ok(request)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Err(Refusal::Malformed)),
            Err(error) => Err(error),
        }
    }

    async fn read_response<T>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
    ) -> io::Result<Self::Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let reply = self.read(io).await;
        if let Err(error) = &reply
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.counters.count(C::TOPIC, "malformed_reply");
        }
        reply
    }

    async fn write_request<T>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        request: Self::Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let request = request.map_err(|refusal| io::Error::other(refusal.to_string()))?;
        self.write(io, &request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        reply: Self::Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.write(io, &reply).await
    }
}

impl<C: Conversation> Codec<C> {
    async fn read<M: DeserializeOwned>(
        &self,
        io: &mut (impl AsyncRead + Unpin + Send),
    ) -> io::Result<M> {
        let mut length = [0; 4];
        io.read_exact(&mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > C::BYTES_MAX {
            return Err(invalid(format!("a message of {length} bytes")));
        }
        let mut bytes = Vec::with_capacity(length.min(TRUSTED_BYTES));
        io.take(length as u64).read_to_end(&mut bytes).await?;
        if bytes.len() < length {
            return Err(invalid("a message that ends too early"));
        }
        self.counters
            .add(C::TOPIC, "bytes_in", bytes.len() as u64 + 4);
        codec::from_bytes(&bytes, C::BYTES_MAX).map_err(invalid)
    }

    async fn write<M: Serialize + Sync>(
        &self,
        io: &mut (impl AsyncWrite + Unpin + Send),
        message: &M,
    ) -> io::Result<()> {
        let bytes = codec::to_bytes(message);
        if bytes.len() > C::BYTES_MAX {
            return Err(invalid(format!("a message of {} bytes", bytes.len())));
        }
        let length = u32::try_from(bytes.len()).map_err(invalid)?;
        io.write_all(&length.to_be_bytes()).await?;
        io.write_all(&bytes).await?;
        self.counters
            .add(C::TOPIC, "bytes_out", bytes.len() as u64 + 4);
        Ok(())
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The open questions of one conversation, in both directions.
#[derive(Debug)]
pub(super) struct Questions<C: Conversation> {
    asked: HashMap<OutboundRequestId, oneshot::Sender<Result<C::Reply, AskError>>>,
    answers: FuturesUnordered<BoxFuture<'static, Answered<C>>>,
    asked_max: usize,
    answers_max: usize,
    counters: Counters,
}

impl<C: Conversation> Questions<C> {
    pub(super) fn new(limits: &NetworkLimits, counters: &Counters) -> Self {
        Self {
            asked: HashMap::new(),
            answers: FuturesUnordered::new(),
            asked_max: limits.asked,
            answers_max: limits.questions,
            counters: counters.clone(),
        }
    }

    /// Sends a question.
    pub(super) fn ask(
        &mut self,
        talk: &mut Talk<C>,
        to: NodeId,
        request: C::Request,
        reply: oneshot::Sender<Result<C::Reply, AskError>>,
    ) {
        if self.asked.len() >= self.asked_max {
            let _ = reply.send(Err(AskError::TooMany));
            return;
        }
        let id = talk.send_request(&peer_of(to), Ok(request));
        self.asked.insert(id, reply);
    }

    /// Takes what libp2p tells; returns a question of a peer that was understood.
    pub(super) fn on_event(
        &mut self,
        talk: &mut Talk<C>,
        event: Event<Question<C>, C::Reply>,
    ) -> Option<(NodeId, C::Request, ResponseChannel<C::Reply>)> {
        match event {
            Event::Message { peer, message, .. } => match message {
                Message::Request {
                    request, channel, ..
                } => return self.on_question(talk, &peer, request, channel),
                Message::Response {
                    request_id,
                    response,
                } => self.answered(request_id, Ok(response)),
            },
            Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                let error = ask_error(&peer, error);
                tracing::debug!(%peer, %error, topic = C::TOPIC, "a question was not answered");
                self.answered(request_id, Err(error));
            }
            Event::InboundFailure { peer, error, .. } => {
                self.counters.count(C::TOPIC, "answer_not_sent");
                tracing::debug!(%peer, %error, topic = C::TOPIC, "an answer was not sent");
            }
            Event::ResponseSent { .. } => {}
        }
        None
    }

    /// Makes the slot into which the owner of the node puts the answer.
    pub(super) fn open_answer(&mut self, channel: ResponseChannel<C::Reply>) -> Answer<C::Reply> {
        let (sender, receiver) = oneshot::channel();
        let wait = tokio::time::timeout(C::TIMEOUT, receiver).map(|answered| {
            let reply = match answered {
                Ok(Ok(reply)) => reply,
                Ok(Err(_)) | Err(_) => C::refused(Refusal::Busy),
            };
            (channel, reply)
        });
        self.answers.push(wait.boxed());
        Answer(sender)
    }

    /// Waits for the next answer of the owner; `None` if no question is open.
    pub(super) async fn next_answer(&mut self) -> Option<Answered<C>> {
        self.answers.next().await
    }

    /// Sends an answer, counting refusals.
    pub(super) fn answer(
        &self,
        talk: &mut Talk<C>,
        channel: ResponseChannel<C::Reply>,
        reply: C::Reply,
    ) {
        if let Some(refusal) = C::refusal(&reply) {
            self.counters.refused(C::TOPIC, refusal);
        }
        if talk.send_response(channel, reply).is_err() {
            self.counters.count(C::TOPIC, "answer_not_sent");
        }
    }

    fn on_question(
        &mut self,
        talk: &mut Talk<C>,
        peer: &libp2p::PeerId,
        request: Question<C>,
        channel: ResponseChannel<C::Reply>,
    ) -> Option<(NodeId, C::Request, ResponseChannel<C::Reply>)> {
        self.counters.count(C::TOPIC, "asked");
        let refusal = match (request, node_of(peer)) {
            (Ok(_), _) if self.answers.len() >= self.answers_max => Refusal::Busy,
            (Ok(request), Some(from)) => return Some((from, request, channel)),
            (Ok(_), None) => Refusal::NotAdmitted,
            (Err(refusal), _) => refusal,
        };
        tracing::debug!(%peer, %refusal, topic = C::TOPIC, "refused a question");
        self.answer(talk, channel, C::refused(refusal));
        None
    }

    fn answered(&mut self, id: OutboundRequestId, reply: Result<C::Reply, AskError>) {
        if let Some(waiter) = self.asked.remove(&id) {
            let _ = waiter.send(reply);
        }
    }
}

fn ask_error(peer: &libp2p::PeerId, error: OutboundFailure) -> AskError {
    match error {
        OutboundFailure::DialFailure => node_of(peer).map_or(
            AskError::Exchange("not an ed25519 peer".to_owned()),
            AskError::Unreachable,
        ),
        OutboundFailure::Timeout => AskError::Timeout,
        OutboundFailure::ConnectionClosed => AskError::ConnectionClosed,
        OutboundFailure::UnsupportedProtocols => AskError::Unsupported,
        OutboundFailure::Io(error) => AskError::Exchange(error.to_string()),
    }
}
