//! The app server for others in this process: the admin socket and the HTTP interface.

use std::time::Duration;

use tally_ledger::cli::{AnswerError, LedgerAnswer, LedgerQuery};
use tally_ledger::store::{Change, Row};
use tally_protocol::account::Money;
use tally_protocol::app_server::{
    Answer, AppServer, Command, Fault, IdempotencyKey, Input, Opening, SignedPoints,
};
use tally_protocol::coordinator::Question;
use tally_protocol::id::OrderId;
use tally_protocol::message::enroll::OrderShown;
use tally_protocol::signed::Verified;
use tally_protocol::time::Timestamp;
use tally_protocol::voucher::Voucher;
use tokio::sync::{mpsc, oneshot};

use super::Message;

/// Asks the app server of this process. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Desk {
    mailbox: mpsc::Sender<Message>,
}

/// Why the app server does not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// It says why.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It is stopping.
    #[error("ask the app server: it is stopping")]
    Stopping,
}

impl Desk {
    /// Returns a desk of the app server behind a mailbox.
    #[must_use]
    pub const fn new(mailbox: mpsc::Sender<Message>) -> Self {
        Self { mailbox }
    }

    /// Has the operator's command carried out. It is durable when this returns.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn command(&self, command: Command) -> Result<Answer, DeskError> {
        self.ask(|question| Input::Ordered { question, command })
            .await
    }

    /// Opens an order, or finds the one that was opened with the same key.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn open(&self, opening: Opening) -> Result<Answer, DeskError> {
        self.ask(|question| Input::Opened { question, opening })
            .await
    }

    /// Takes points for an order. Whether they are taken shows when it is [at rest](Self::at_rest).
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn redeem(
        &self,
        order: OrderId,
        points: Vec<SignedPoints>,
    ) -> Result<Answer, DeskError> {
        let input = move |question| Input::Redeemed {
            question,
            order,
            points,
        };
        self.ask(input).await
    }

    /// Notes that the user's part was paid.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn pay(&self, order: OrderId, reference: String) -> Result<Answer, DeskError> {
        let input = move |question| Input::Paid {
            question,
            order,
            reference,
        };
        self.ask(input).await
    }

    /// Uses a voucher whose signature holds on a shop's fee.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn use_voucher(
        &self,
        voucher: Verified<Voucher>,
        fee: Money,
        key: IdempotencyKey,
    ) -> Result<Answer, DeskError> {
        let input = move |question| Input::UseVoucher {
            question,
            voucher: Box::new(voucher),
            fee,
            key,
        };
        self.ask(input).await
    }

    /// Looks at the machine: `read` runs between two inputs, so it must be short.
    ///
    /// # Errors
    /// [`DeskError::Stopping`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&AppServer, Timestamp) -> T + Send + 'static,
    ) -> Result<T, DeskError> {
        let (reply, answered) = oneshot::channel();
        let reads = move |machine: &AppServer, now: Timestamp| {
            let _ = reply.send(read(machine, now));
        };
        self.send(Message::Read(Box::new(reads))).await?;
        answered.await.map_err(|_| DeskError::Stopping)
    }

    /// Waits until nothing happens to an order any more before somebody does something, at most so long. Returns how it
    /// is then; none if it is not known.
    ///
    /// # Errors
    /// [`DeskError::Stopping`].
    pub async fn at_rest(
        &self,
        order: OrderId,
        at_most: Duration,
    ) -> Result<Option<OrderShown>, DeskError> {
        let (reply, answered) = oneshot::channel();
        self.send(Message::Watch(order, reply)).await?;
        match tokio::time::timeout(at_most, answered).await {
            Ok(shown) => shown.map_err(|_| DeskError::Stopping),
            Err(_) => {
                let shown = move |machine: &AppServer, _| Some(machine.order(order)?.shown());
                self.read(shown).await
            }
        }
    }

    /// Writes rows and removes others. They are durable when this returns. Two calls at a time must not concern the same
    /// row: in one group removals are done before puts.
    ///
    /// # Errors
    /// [`DeskError::Stopping`].
    pub async fn keep(&self, puts: Vec<Row>, removals: Vec<Vec<u8>>) -> Result<(), DeskError> {
        let (reply, answered) = oneshot::channel();
        let rows = Change {
            puts,
            removals,
            ..Change::default()
        };
        self.send(Message::Keep(rows, reply)).await?;
        answered.await.map_err(|_| DeskError::Stopping)
    }

    /// Asks about the app server's log.
    ///
    /// # Errors
    /// [`DeskError::Stopping`]; what the log says is inside.
    pub async fn ledger(
        &self,
        query: LedgerQuery,
    ) -> Result<Result<LedgerAnswer, AnswerError>, DeskError> {
        let (reply, answered) = oneshot::channel();
        self.send(Message::Ledger(query, reply)).await?;
        answered.await.map_err(|_| DeskError::Stopping)
    }

    async fn ask(
        &self,
        asks: impl FnOnce(Question) -> Input + Send + 'static,
    ) -> Result<Answer, DeskError> {
        let (reply, answered) = oneshot::channel();
        self.send(Message::Asked(Box::new(asks), reply)).await?;
        let answer = answered.await.map_err(|_| DeskError::Stopping)?;
        Ok(answer?)
    }

    async fn send(&self, message: Message) -> Result<(), DeskError> {
        let sent = self.mailbox.send(message).await;
        sent.map_err(|_| DeskError::Stopping)
    }
}
