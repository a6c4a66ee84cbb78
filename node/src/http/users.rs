//! What users have, and what shops do with vouchers.

use axum::Json;
use axum::extract::State;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tally_protocol::account::Money;
use tally_protocol::app_server::{Answer, Fault, IdempotencyKey};
use tally_protocol::id::{LicenseId, NodeId};
use tally_protocol::signed::Signed;
use tally_protocol::voucher::Voucher;
use tokio::task::spawn_blocking;

use super::Shared;
use super::ask::{Body, Keyed, Named};
use super::fault::Refused;
use super::shown::{LicenseBody, SplitBody, UserBody, VoucherUseBody};
use super::tokens::Asker;
use crate::error::joined;

/// What an owner has: computers, and points by coordinator.
#[utoipa::path(get, path = "/v1/users/{owner}", tag = "users",
    params(("owner" = String, Path)), security(("token" = [])),
    responses((status = 200, body = UserBody)))]
pub(super) async fn user(
    State(interface): Shared,
    asker: Asker,
    Named(owner): Named,
) -> Result<Json<UserBody>, Refused> {
    let owner: NodeId = owner.parse().map_err(|_| Refused::unknown_user())?;
    if !asker.sees(owner) {
        return Err(Refused::unknown_user());
    }
    let body = move |machine: &_, now| UserBody::of(machine, owner, now);
    Ok(Json(interface.desk.read(body).await?))
}

/// How a license is.
#[utoipa::path(get, path = "/v1/licenses/{id}", tag = "users",
    params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, body = LicenseBody)))]
pub(super) async fn license(
    State(interface): Shared,
    asker: Asker,
    Named(id): Named,
) -> Result<Json<LicenseBody>, Refused> {
    let id: LicenseId = id.parse().map_err(|_| Fault::UnknownLicense)?;
    let found = interface
        .desk
        .read(move |machine, _| LicenseBody::of(machine, id));
    let own = found.await?.filter(|(owner, _)| asker.sees(*owner));
    let (_, shown) = own.ok_or(Fault::UnknownLicense)?;
    Ok(Json(shown))
}

/// Uses a voucher on a shop's fee, once. The same key, voucher and fee again have the same answer.
#[utoipa::path(post, path = "/v1/vouchers/use", tag = "shops", request_body = VoucherUseBody,
    params(("Idempotency-Key" = String, Header, description = "1 to 64 bytes, new for each new fee")),
    security(("token" = [])), responses((status = 200, body = SplitBody)))]
pub(super) async fn use_voucher(
    State(interface): Shared,
    asker: Asker,
    Keyed(key): Keyed,
    Body(body): Body<VoucherUseBody>,
) -> Result<Json<SplitBody>, Refused> {
    asker.is_shop()?;
    let fee = Money::try_from(body.fee);
    let fee = fee.map_err(|error| Refused::bad_request(error.to_string()))?;
    let signed = Signed::<Voucher>::from_text(&body.voucher);
    let signed = signed.map_err(|error| Refused::bad_request(error.to_string()))?;
    let network = interface.network.clone();
    let verified = spawn_blocking(move || signed.verify(&network)).await;
    let verified = joined(verified);
    let voucher = verified.map_err(|_| Fault::UnknownVoucher)?;
    let key = of_shop(&asker.name, &key);
    match interface.desk.use_voucher(voucher, fee, key).await? {
        Answer::Split(split) => Ok(Json(SplitBody::of(split, fee))),
        Answer::Done | Answer::Registered(_) | Answer::Order(_) | Answer::Settlement(_) => {
            Err(Fault::UnknownVoucher.into())
        }
    }
}

/// Returns a key that no other shop has: two of them may draw the same, and a voucher counts once.
fn of_shop(shop: &str, key: &IdempotencyKey) -> IdempotencyKey {
    let hash = Sha256::new()
        .chain_update(shop)
        .chain_update([0])
        .chain_update(key.to_string())
        .finalize();
    let text = HEXLOWER.encode(&hash);
    text.parse().expect("64 digits are a key")
}
