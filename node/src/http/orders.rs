//! Orders: opened, paid with points and money, cancelled.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use data_encoding::BASE64;
use tally_protocol::app_server::{Answer, Command, Fault, Opening, Phase, Wish};
use tally_protocol::id::{NodeId, OrderId};
use tally_protocol::message::Refusal;
use tally_protocol::message::enroll::{OrderShown, PointsShown};
use tally_protocol::signed::Signed;
use tokio::task::spawn_blocking;

use super::ask::{Body, Keyed, Named};
use super::fault::Refused;
use super::shown::{OpeningBody, OrderBody, PaymentBody, PointsBody, RedeemBody};
use super::tokens::Asker;
use super::{Interface, Shared};
use crate::app_server::verified_points;
use crate::error::joined;

/// How long a redemption waits for coordinators before it is said to go on: less than proxies wait for an answer.
const REDEEM_TIME_MAX: Duration = Duration::from_secs(25);

/// Opens an order. The same key and wish again find the same order.
#[utoipa::path(post, path = "/v1/orders", tag = "orders", request_body = OpeningBody,
    params(("Idempotency-Key" = String, Header, description = "1 to 64 bytes, new for each new order")),
    security(("token" = [])), responses((status = 200, body = OrderBody)))]
pub(super) async fn open(
    State(interface): Shared,
    asker: Asker,
    Keyed(key): Keyed,
    Body(opening): Body<OpeningBody>,
) -> Result<Json<OrderBody>, Refused> {
    let bad = |error: tally_protocol::id::ParseIdError| Refused::bad_request(error.to_string());
    let named = opening.owner.map(|owner| owner.parse::<NodeId>());
    let owner = asker.orders_for(named.transpose().map_err(bad)?)?;
    let wish = Wish::try_from(opening.wish).map_err(bad)?;
    let opened = interface.desk.open(Opening { owner, wish, key }).await?;
    Ok(Json(shown(&interface, opened).await?))
}

/// How an order is.
#[utoipa::path(get, path = "/v1/orders/{id}", tag = "orders",
    params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, body = OrderBody)))]
pub(super) async fn show(
    State(interface): Shared,
    asker: Asker,
    Named(id): Named,
) -> Result<Json<OrderBody>, Refused> {
    let (_, shown) = own(&interface, &asker, &id).await?;
    Ok(Json(shown.into()))
}

/// Pays for an order with points, and waits until they are taken or it is clear that they are not.
#[utoipa::path(post, path = "/v1/orders/{id}/redeem", tag = "orders", request_body = RedeemBody,
    params(("id" = String, Path)), security(("token" = [])),
    responses(
        (status = 200, body = OrderBody),
        (status = 202, body = OrderBody, description = "It goes on: ask how the order is.")
    ))]
pub(super) async fn redeem(
    State(interface): Shared,
    asker: Asker,
    Named(id): Named,
    Body(body): Body<RedeemBody>,
) -> Result<(StatusCode, Json<OrderBody>), Refused> {
    let (id, _) = own(&interface, &asker, &id).await?;
    let points = body.points.into_iter().map(decode);
    let points = points.collect::<Result<Vec<PointsShown>, Refused>>()?;
    let network = interface.network.clone();
    let verified = spawn_blocking(move || verified_points(points, &network)).await;
    let verified = joined(verified);
    let points = verified.map_err(not_verified)?;
    interface.desk.redeem(id, points).await?;
    let shown = interface.desk.at_rest(id, REDEEM_TIME_MAX).await?;
    let shown = shown.ok_or(Fault::UnknownOrder)?;
    if let Some(reason) = &shown.status.void {
        return Err(Refused::void(reason));
    }
    let status = match shown.status.phase {
        Phase::Open | Phase::Posted | Phase::Fulfilled | Phase::Void | Phase::Refunded => {
            StatusCode::OK
        }
        Phase::Reserving | Phase::Decided | Phase::Paid => StatusCode::ACCEPTED,
    };
    Ok((status, Json(shown.into())))
}

/// Notes that the user's part was paid. The same reference again is the same payment.
#[utoipa::path(post, path = "/v1/orders/{id}/payment", tag = "operator",
    request_body = PaymentBody, params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, body = OrderBody)))]
pub(super) async fn pay(
    State(interface): Shared,
    asker: Asker,
    Named(id): Named,
    Body(payment): Body<PaymentBody>,
) -> Result<Json<OrderBody>, Refused> {
    asker.is_operator()?;
    let (id, _) = own(&interface, &asker, &id).await?;
    let paid = interface.desk.pay(id, payment.reference).await?;
    Ok(Json(shown(&interface, paid).await?))
}

/// Cancels an order on which nothing was decided, or whose user's part nobody pays: its points are free again.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", tag = "orders",
    params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, body = OrderBody)))]
pub(super) async fn cancel(
    State(interface): Shared,
    asker: Asker,
    Named(id): Named,
) -> Result<Json<OrderBody>, Refused> {
    let (id, _) = own(&interface, &asker, &id).await?;
    let cancelled = interface.desk.command(Command::Cancel(id)).await?;
    Ok(Json(shown(&interface, cancelled).await?))
}

/// Finds an order that the asker may see. Others' orders are as unknown as those that are not.
async fn own(
    interface: &Arc<Interface>,
    asker: &Asker,
    id: &str,
) -> Result<(OrderId, OrderShown), Refused> {
    let id: OrderId = id.parse().map_err(|_| Fault::UnknownOrder)?;
    let shown = find(interface, id).await?;
    if asker.sees(shown.owner) {
        Ok((id, shown))
    } else {
        Err(Fault::UnknownOrder.into())
    }
}

/// Finds an order.
pub(super) async fn find(interface: &Interface, id: OrderId) -> Result<OrderShown, Refused> {
    let found = interface
        .desk
        .read(move |machine, _| Some(machine.order(id)?.shown()));
    Ok(found.await?.ok_or(Fault::UnknownOrder)?)
}

/// Shows the order that an answer is about, with its goods.
async fn shown(interface: &Interface, answer: Answer) -> Result<OrderBody, Refused> {
    match answer {
        Answer::Order(status) => Ok(find(interface, status.order).await?.into()),
        Answer::Done | Answer::Registered(_) | Answer::Split(_) | Answer::Settlement(_) => {
            Err(Fault::UnknownOrder.into())
        }
    }
}

fn decode(points: PointsBody) -> Result<PointsShown, Refused> {
    let bytes = |text: &str| {
        let bytes = BASE64.decode(text.trim().as_bytes());
        bytes.map_err(|_| Refused::bad_request("points: base64 of signed statements"))
    };
    let redeem = Signed::from_bytes(bytes(&points.redeem)?);
    let certificate = points.certificate.as_deref().map(bytes).transpose()?;
    Ok((redeem, certificate.map(Signed::from_bytes)))
}

fn not_verified(refusal: Refusal) -> Refused {
    if refusal == Refusal::Unverified {
        let hint = "sign for this network, and send what was signed, unchanged";
        return Refused::new("unverified", "a signature does not hold", hint);
    }
    Refused::bad_request("points: at most 32")
}
