//! A computer enrols for a product: what is offered and by whom, the registration, the user application.
//!
//! Invariants: what its owner is shown before the consent is what is registered for; the vendor's root key is pinned then,
//! from the certificate of the app server's issuer unless the owner names it; a registration is kept only with all of its
//! signatures checked.

use std::fs;
use std::path::{Path, PathBuf};

use tally_protocol::account::Holder;
use tally_protocol::app_server::Product;
use tally_protocol::id::{BlobId, NetworkId, NodeId};
use tally_protocol::issuer::{Certified, Trust};
use tally_protocol::license::StatusList;
use tally_protocol::message::enroll::EnrollRequest;
use tally_protocol::product::ProductId;
use tally_protocol::registration::{Enrolment, Registration};
use tally_protocol::signed::{Signed, Verified};

use super::kept::{Joined, Membership, checked_registration};
use super::line::{Contact, Desk, Line};
use super::{Member, MemberError, bundle};
use crate::clock;
use crate::error::{chain, joined};

/// What is offered to the owner of a computer, by whom, and for whom the computer earns.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The product.
    pub product: Product,
    /// The vendor's name, as its root key says.
    pub vendor: String,
    /// The vendor's root key, which is pinned.
    pub root: NodeId,
    /// Where the app server is.
    pub contact: Contact,
    /// The computer and who earns with it.
    pub holder: Holder,
    /// The newest status list.
    pub list: Signed<StatusList>,
}

/// Asks what a computer would enrol for. `pinned` is the vendor's root key, if the owner knows it.
///
/// # Errors
/// [`MemberError`] if there is no such product, or the app server is not certified by that vendor.
pub async fn look(
    member: &Member,
    desk: Desk<'_>,
    id: &ProductId,
    pinned: Option<NodeId>,
) -> Result<Preview, MemberError> {
    let product = desk.product(id.clone()).await?;
    let is_asked = product.id == *id && product.terms.product == *id;
    let program = product.launch.first();
    let program = program.filter(|_| is_asked);
    let program = program.ok_or_else(|| MemberError::Answer("another product".to_owned()))?;
    bundle::inside(program.as_ref())?;
    let list = desk.status_list().await?;
    let root = match pinned {
        Some(root) => root,
        None => root_of(&list, member.network())?,
    };
    let app_server = desk.contact.app_server;
    let certified = check_list(&list, (member.network(), root, app_server))?;
    let (holder, _) = member.holder()?;
    Ok(Preview {
        product,
        vendor: certified.certificate().vendor.clone(),
        root,
        contact: desk.contact.clone(),
        holder,
        list,
    })
}

/// Returns who certified the issuer of a list, as the list says: to be pinned at the first sight.
fn root_of(list: &Signed<StatusList>, network: &NetworkId) -> Result<NodeId, MemberError> {
    let list = list.clone().verify(network)?;
    Ok(list.issuer.clone().verify(network)?.signer())
}

/// Checks that a list is by an issuer that a root has certified for an app server.
///
/// # Errors
/// [`MemberError::Answer`].
pub fn check_list(
    list: &Signed<StatusList>,
    (network, root, app_server): (&NetworkId, NodeId, NodeId),
) -> Result<Certified<StatusList>, MemberError> {
    let trust = Trust {
        roots: vec![root],
        network: network.clone(),
    };
    let certified = trust.check(list.clone());
    let certified = certified.map_err(|error| MemberError::Answer(chain(&error)))?;
    if certified.certificate().app_server == app_server {
        Ok(certified)
    } else {
        let why = "its issuer is certified for another app server".to_owned();
        Err(MemberError::Answer(why))
    }
}

/// Enrols the computer, with its owner's consent, and keeps the registration.
///
/// # Errors
/// [`MemberError`] if the app server does not register it or the disk does not take it.
pub async fn enrol(
    member: &Member,
    line: &Line,
    preview: &Preview,
) -> Result<Verified<Registration>, MemberError> {
    let contact = &preview.contact;
    let desk = Desk { line, contact };
    let registration = register(member, desk, &preview.product.id).await?;
    let joined = Joined {
        app_server: contact.app_server,
        addresses: contact.addresses.clone(),
        vendor: preview.vendor.clone(),
        root: preview.root,
        registration: registration.signed().clone(),
        product: preview.product.clone(),
    };
    let memberships = member.memberships();
    memberships.change(contact.app_server, |known| match known {
        Some(known) => known.enrol_again(joined),
        None => *known = Some(Membership::new(joined)),
    })?;
    Ok(registration)
}

/// Has the computer registered for a product.
///
/// # Errors
/// [`MemberError`] if the app server does not do it, or not for this computer.
pub async fn register(
    member: &Member,
    desk: Desk<'_>,
    product: &ProductId,
) -> Result<Verified<Registration>, MemberError> {
    let (holder, certificate) = member.holder()?;
    let app_server = desk.contact.app_server;
    let enrolment = Enrolment {
        app_server,
        product: product.clone(),
        owner: holder.owner,
        at: clock::now(),
    };
    let enrolment = Verified::sign(enrolment, member.network(), &member.key);
    let request = EnrollRequest::Enrol {
        enrolment: enrolment.signed().clone(),
        certificate: certificate.map(|shown| shown.signed().clone()),
    };
    let signed = desk.enrol(request).await?;
    let registration = checked_registration(signed, member.network(), (app_server, member.me()))?;
    if registration.product != *product || registration.holder != holder {
        let why = "the registration is for another product or owner".to_owned();
        return Err(MemberError::Answer(why));
    }
    Ok(registration)
}

/// Downloads the application of a product and unpacks it. Returns its folder.
///
/// # Errors
/// [`MemberError`]; what was there before is there then, and what was downloaded need not be downloaded again.
pub async fn deliver(
    member: &Member,
    line: &Line,
    (contact, product): (&Contact, &Product),
    tell: impl FnMut(u64, u64) + Send,
) -> Result<PathBuf, MemberError> {
    let folder = member.folder();
    let brought = line.bring((folder, contact), product.bundle, tell).await?;
    let target = unpack(member, product, &brought).await?;
    // It is unpacked; the next delivery is of another version.
    let _ = fs::remove_dir_all(folder.downloads());
    Ok(target)
}

/// Unpacks an application that is here as a file. Returns its folder; none if the file is not what the product is.
///
/// # Errors
/// [`MemberError`] if the file cannot be read, or not unpacked.
pub async fn unpack_own(
    member: &Member,
    product: &Product,
    file: &Path,
) -> Result<Option<PathBuf>, MemberError> {
    let path = file.to_owned();
    let hash = tokio::task::spawn_blocking(move || -> Result<blake3::Hash, MemberError> {
        let opened = fs::File::open(&path).map_err(MemberError::io(&path))?;
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader(opened)
            .map_err(MemberError::io(&path))?;
        Ok(hasher.finalize())
    });
    let hash = hash.await;
    let hash = joined(hash)?;
    if BlobId::from_bytes(*hash.as_bytes()) != product.bundle.id {
        return Ok(None);
    }
    unpack(member, product, file).await.map(Some)
}

async fn unpack(member: &Member, product: &Product, bundle: &Path) -> Result<PathBuf, MemberError> {
    let target = application(member, &product.id);
    let program = product.launch.first().cloned().unwrap_or_default();
    let (bundle, to) = (bundle.to_owned(), target.clone());
    let unpacked = tokio::task::spawn_blocking(move || bundle::unpack(&bundle, &to, &program));
    let unpacked = unpacked.await;
    joined(unpacked)?;
    Ok(target)
}

/// Returns where the files of an application are.
#[must_use]
pub fn application(member: &Member, product: &ProductId) -> PathBuf {
    member.folder().application(product).join("app")
}
