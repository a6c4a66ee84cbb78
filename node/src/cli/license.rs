//! `tally license`: licenses are checked, put where applications look, renewed.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tally_protocol::app_server::Phase;
use tally_protocol::id::{LicenseId, NetworkId, NodeId};
use tally_protocol::issuer::Trust;
use tally_protocol::license::{Challenge, Known, License, Pins, StatusList, Verdict, verify};
use tally_protocol::product::ProductId;
use tally_protocol::signed::Signed;
use tally_protocol::time::Timestamp;

use super::app;
use super::enroll::Session;
use super::output::Output;
use super::redeem;
use super::{Common, Exit, Failure};
use crate::clock;
use crate::keys;
use crate::member::ordering::What;
use crate::member::shelf::{Judged, Shelf};
use crate::member::spending::{Plan, Spender};
use crate::member::{Member, prove, steward};

/// The longest license text that is read, in bytes.
const TEXT_BYTES_MAX: u64 = 64 << 10;

/// `tally license`.
#[derive(Debug, Subcommand)]
pub(super) enum LicenseCommand {
    /// Check a license as its application does: by the vendor's root key, without asking anyone.
    Verify(Verify),
    /// Show what the licenses of a product on this computer say, and what is the case with them.
    Show {
        /// The product.
        product: ProductId,
    },
    /// Fetch the newest status list, and put it with the license where the application looks.
    Apply {
        /// The product.
        product: ProductId,
        /// A license to be taken in first. [default: those that are there]
        file: Option<PathBuf>,
    },
    /// Renew a license for the points of its renewal rule.
    Renew {
        /// The product.
        product: ProductId,
        /// Your own key. [default: this computer's if it may, else owner-key in the data folder]
        #[arg(long, value_name = "FILE")]
        owner_key: Option<PathBuf>,
    },
    /// On an app server: let a license hold no more, for ever. The same as `tally app license revoke`.
    Revoke {
        /// Its id.
        license: LicenseId,
    },
}

/// `tally license verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The license.
    file: PathBuf,
    /// The vendor's root key; may be given several times.
    #[arg(long, required = true, value_name = "ID")]
    root: Vec<NodeId>,
    /// The newest status list that there is.
    #[arg(long, value_name = "FILE")]
    status_list: Option<PathBuf>,
    /// The product that the application is. [default: what the license says]
    #[arg(long, value_name = "NAME")]
    product: Option<ProductId>,
    /// The network that the application pins. [default: what the license says]
    #[arg(long, value_name = "NAME")]
    network: Option<NetworkId>,
}

impl LicenseCommand {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let output = common.output();
        match self {
            Self::Verify(check) => check.run(common),
            Self::Show { product } => {
                let member = member(common)?;
                let membership = member.memberships().having(&product)?;
                let shelf = Shelf::new(&member, &membership, &product);
                show_all(&shelf.judge()?, output)
            }
            Self::Apply { product, file } => {
                let session = Session::open(common).await?;
                let result = apply(&session, (&product, file.as_deref()), output).await;
                session.line.close().await;
                result
            }
            Self::Renew { product, owner_key } => {
                let session = Session::open(common).await?;
                let result = renew(&session, (&product, owner_key.as_deref()), output).await;
                session.line.close().await;
                result
            }
            Self::Revoke { license } => app::License::Revoke { license }.run(common).await,
        }
    }
}

fn member(common: &Common) -> Result<Member, Failure> {
    let folder = common.folder()?;
    let config = crate::config::Config::read(&folder.config(), crate::config::Optional::Yes)?;
    let key = keys::read(&folder.key())?;
    Ok(Member::new(&folder, config.network, key))
}

impl Verify {
    fn run(&self, common: &Common) -> Result<(), Failure> {
        let text = read_text(&self.file)?;
        let list = self.status_list.as_deref().map(read_list).transpose()?;
        let signed = Signed::<License>::from_text(&text).ok();
        let claimed = signed.as_ref().and_then(|of| of.claimed_network().ok());
        let network = self.network.clone().or(claimed);
        let network = network.unwrap_or_else(|| "tally".parse().expect("a network name"));
        let trust = Trust {
            roots: self.root.clone(),
            network: network.clone(),
        };
        let content = signed.and_then(|signed| trust.check(signed).ok());
        let content = content.as_ref().map(|of| of.statement().value());
        let said = content.map(|license| license.product.clone());
        let product = self.product.clone().or(said);
        let product = product.unwrap_or_else(|| "unknown".parse().expect("a product name"));
        let nonce = rand::random();
        // As the terminal of this computer would answer.
        let key = common.folder_path().ok();
        let key = key.and_then(|path| keys::read(&path.join("key")).ok());
        let proof = key
            .zip(content)
            .map(|(key, license)| prove(&key, &network, license.id, nonce));
        let known = Known {
            now: clock::now(),
            seen: Timestamp::default(),
            status: list.as_ref(),
            challenge: proof.as_ref().map(|proof| Challenge { nonce, proof }),
        };
        let verdict = verify(&text, &Pins { trust, product }, &known);
        let value = described(&verdict);
        common.output().result(&value, || lines(&verdict))?;
        if verdict.code.allows_start() {
            Ok(())
        } else {
            let code = verdict.code;
            let message = format!("accept the license {}: it is {code}", self.file.display());
            Err(Failure::new(Exit::Unsuccessful, message)
                .hint("docs/licenses.md says what each code means"))
        }
    }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(Exit::Usage, format!("read {}: {error}", path.display()))
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > TEXT_BYTES_MAX {
        let message = format!("read {}: it is too long for a license", path.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a status list: its bytes, or its text.
fn read_list(path: &Path) -> Result<Signed<StatusList>, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("read {}: {error}", path.display())))?;
    let text = std::str::from_utf8(&bytes).ok();
    let armoured = text.and_then(|text| Signed::from_text(text).ok());
    Ok(armoured.unwrap_or_else(|| Signed::from_bytes(bytes)))
}

async fn apply(
    session: &Session,
    (product, file): (&ProductId, Option<&Path>),
    output: Output,
) -> Result<(), Failure> {
    let Session { member, line, .. } = session;
    let membership = member.memberships().having(product)?;
    let shelf = Shelf::new(member, &membership, product);
    if let Some(file) = file {
        let license = Signed::from_text(&read_text(file)?);
        let license = license.map_err(|error| {
            Failure::new(Exit::Usage, format!("read {}: {error}", file.display()))
        })?;
        shelf.add(&license)?;
    }
    if let Err(error) = steward::fetch_list(member, line, &membership).await {
        output.note(format!("the status list is not the newest: {error}"));
    }
    let licenses = shelf.apply()?;
    if licenses.is_empty() {
        return Err(none_of(product));
    }
    output.note(format!("applied: {}", shelf.applied().display()));
    show_all(&licenses, output)
}

async fn renew(
    session: &Session,
    (product, owner_key): (&ProductId, Option<&Path>),
    output: Output,
) -> Result<(), Failure> {
    let Session { member, line, .. } = session;
    let membership = member.memberships().having(product)?;
    let licenses = Shelf::new(member, &membership, product).judge()?;
    let last = licenses.iter().filter_map(Judged::content);
    let last = last.max_by_key(|license| license.expires);
    let last = last.ok_or_else(|| none_of(product))?;
    let Some(rule) = last.renewal else {
        let message = "renew the license: its vendor sells no renewal";
        return Err(Failure::new(Exit::Refused, message)
            .hint("`tally redeem license` orders a new one when it has expired"));
    };
    let what = What::Renewal(product.clone(), last.id);
    let spender = Spender::of(member, owner_key)?;
    let plan = Plan::Exactly(rule.points);
    let ordered = redeem::order((member, line), &membership, (&what, plan, &spender), output);
    let ordered = ordered.await?;
    if ordered.status.phase == Phase::Open {
        let message = "renew the license: the order waits for its points";
        return Err(Failure::new(Exit::Failed, message));
    }
    redeem::show(&membership, &what, ordered, output)
}

fn none_of(product: &ProductId) -> Failure {
    let message = format!("find a license of {product}: there is none");
    Failure::new(Exit::NotFound, message).hint("`tally redeem license` orders one")
}

fn show_all(licenses: &[Judged], output: Output) -> Result<(), Failure> {
    let all: Vec<Value> = licenses.iter().map(|of| described(&of.verdict)).collect();
    output.result(&all, || {
        if licenses.is_empty() {
            return "there is no license".to_owned();
        }
        let texts = licenses.iter().map(|judged| lines(&judged.verdict));
        texts.collect::<Vec<String>>().join("\n\n")
    })
}

/// Returns a verdict for programs.
fn described(verdict: &Verdict) -> Value {
    let license = verdict.license.as_ref().map(|certified| {
        let (license, certificate) = (certified.statement(), certified.certificate());
        json!({
            "id": license.id,
            "product": license.product,
            "entitlements": license.entitlements,
            "holder": license.holder,
            "devices": license.devices,
            "issued": license.issued,
            "not_before": license.not_before,
            "expires": license.expires,
            "grace_seconds": license.grace_seconds,
            "renewal": license.renewal,
            "status_index": license.status.index,
            "redemptions": license.basis.redemptions,
            "vendor": certificate.vendor,
            "app_server": certificate.app_server,
            "root": certificate.signer(),
        })
    });
    json!({"code": verdict.code, "until": verdict.until, "license": license})
}

/// Returns a verdict for people.
fn lines(verdict: &Verdict) -> String {
    let mut lines = vec![format!("code      {}", verdict.code)];
    if let Some(certified) = &verdict.license {
        let (license, certificate) = (certified.statement(), certified.certificate());
        lines.push(format!("license   {}", license.id));
        lines.push(format!(
            "product   {} of {}",
            license.product, certificate.vendor
        ));
        if !license.entitlements.is_empty() {
            lines.push(format!("allows    {}", license.entitlements.join(", ")));
        }
        lines.push(format!("holder    {}", license.holder));
        if license.devices.is_empty() {
            lines.push("computer  any".to_owned());
        }
        for device in &license.devices {
            lines.push(format!("computer  {device}"));
        }
        lines.push(format!("from      {}", license.not_before));
        lines.push(format!("until     {}", license.expires));
        if let Some(rule) = license.renewal {
            let (points, days) = (rule.points, rule.period_seconds.div_ceil(86_400));
            lines.push(format!("renewal   {points} points for {days} days"));
        }
    }
    if let Some(until) = verdict.until {
        lines.push(format!("starts    until {until} if nothing new comes"));
    }
    lines.join("\n")
}
