//! `tally enroll`: a computer takes an invitation.

use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::invite::{Invite, InviteFault};
use tally_protocol::manners::Preferences;
use tally_protocol::registration::Registration;
use tally_protocol::signed::{Signed, Statement, Verified};

use super::output::{BarUnit, Output};
use super::{Common, Exit, Failure};
use crate::admin::{Request, ask};
use crate::clock;
use crate::config::{Config, Optional};
use crate::folder::Folder;
use crate::keys::{self, KeyError};
use crate::member::enrolling::{self, Preview};
use crate::member::line::Desk;
use crate::member::settings::{self, SettingsError};
use crate::member::shelf::Shelf;
use crate::member::{Contact, Line, Member, MemberError};
use crate::owner::preferences;

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// `tally enroll`.
#[derive(Debug, Args)]
pub(super) struct Enroll {
    /// The invitation: a file, - for standard input, or the text itself.
    #[arg(allow_hyphen_values = true, value_name = "INVITE")]
    invite: String,
    /// Agree to what is shown.
    #[arg(long, short)]
    yes: bool,
    /// The vendor's root key. [default: who certified the app server, pinned from then on]
    #[arg(long, value_name = "ID")]
    root: Option<NodeId>,
    /// Do not download the application.
    #[arg(long, conflicts_with = "application")]
    no_application: bool,
    /// The application as it was delivered. If it is not what is offered by now, it is downloaded all the same.
    #[arg(long, value_name = "FILE")]
    application: Option<PathBuf>,
}

/// The computer of a folder, and the way to its app servers.
pub(super) struct Session {
    pub(super) member: Member,
    pub(super) line: Line,
}

impl Session {
    /// Opens the folder of a command.
    pub(super) async fn open(common: &Common) -> Result<Self, Failure> {
        let folder = common.folder()?;
        let config = Config::read(&folder.config(), Optional::Yes)?;
        Self::with(&folder, &config).await
    }

    async fn with(folder: &Folder, config: &Config) -> Result<Self, Failure> {
        let key = keys::read(&folder.key())?;
        let member = Member::new(folder, config.network.clone(), key);
        let line = Line::open(folder, config).await?;
        Ok(Self { member, line })
    }
}

impl Enroll {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let (network, invite) = self.read()?;
        let (folder, output) = (common.folder()?, common.output());
        if folder.app_server_store().exists() {
            let message = "enrol the computer of an app server: its folder has its products";
            return Err(Failure::new(Exit::Usage, message).hint("use another folder with --dir"));
        }
        settings::check_network(&folder, &network).map_err(refused_settings)?;
        match keys::read(&folder.key()) {
            Err(KeyError::Missing { path, .. }) => {
                let key = keys::create(&path)?;
                output.note(format!("made the key of {}", keys::node_id(&key)));
            }
            key => drop(key?),
        }
        let mut config = Config::read(&folder.config(), Optional::Yes)?;
        config.network = network;
        let session = Session::with(&folder, &config).await?;
        let result = self.enrol(&session, &invite, output).await;
        session.line.close().await;
        result
    }

    /// Reads the invitation, which says its network.
    fn read(&self) -> Result<(NetworkId, Verified<Invite>), Failure> {
        let usage = |message: String| Failure::new(Exit::Usage, message);
        let text = if self.invite.trim_start().starts_with("-----BEGIN") {
            self.invite.clone()
        } else if self.invite == "-" {
            let mut text = String::new();
            let most = (Invite::BYTES_MAX * 4) as u64;
            io::stdin().lock().take(most).read_to_string(&mut text)?;
            text
        } else {
            let path = Path::new(&self.invite);
            let read = std::fs::read_to_string(path);
            read.map_err(|error| usage(format!("read the invitation {}: {error}", self.invite)))?
        };
        let signed = Signed::<Invite>::from_text(&text);
        let signed = signed.map_err(|error| usage(format!("read the invitation: {error}")))?;
        Invite::check(signed, clock::now()).map_err(|fault| {
            let hint = match fault {
                InviteFault::Expired(_) => "ask the vendor for a new one, and look at the clock",
                InviteFault::Verify(_) | InviteFault::Content => {
                    "it was changed on the way: get it again from the vendor"
                }
            };
            usage(crate::error::chain(&fault)).hint(hint)
        })
    }

    async fn enrol(
        &self,
        session: &Session,
        invite: &Verified<Invite>,
        output: Output,
    ) -> Result<(), Failure> {
        let Session { member, line, .. } = session;
        let contact = Contact {
            app_server: invite.app_server,
            addresses: invite.addresses.clone(),
        };
        let desk = Desk {
            line,
            contact: &contact,
        };
        let preview = enrolling::look(member, desk, &invite.product, self.root).await?;
        let path = member.folder().preferences();
        let preferences = preferences::read(&path, None).map_err(super::owner::refused)?;
        output.note(offered(&preview, member.network(), &preferences));
        self.consent(output)?;
        let folder = member.folder();
        let first = reachable(&contact);
        settings::join(folder, member.network(), &first).map_err(refused_settings)?;
        let registration = enrolling::enrol(member, line, &preview).await?;
        if let Line::Node(socket) = line {
            let registration = registration.signed().clone();
            let told: serde_json::Value =
                ask(socket, &Request::Registered { registration }).await?;
            drop(told);
        }
        let membership = member.memberships().having(&preview.product.id)?;
        Shelf::new(member, &membership, &preview.product.id).keep_list(&preview.list)?;
        if !self.no_application {
            let here = self.application.as_deref();
            deliver(member, line, (&preview, here), output).await?;
        }
        show(&preview, &registration, output)
    }

    /// Asks the owner.
    fn consent(&self, output: Output) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            let message = "enrol: nobody is there to agree";
            return Err(Failure::new(Exit::Usage, message).hint("agree with --yes"));
        }
        output.note("\nAgree? [y/N]");
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        if matches!(line.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            let message = "enrol: it was not agreed to, and nothing was changed";
            Err(Failure::new(Exit::Interrupted, message))
        }
    }
}

fn refused_settings(error: SettingsError) -> Failure {
    let failure = Failure::new(Exit::Usage, crate::error::chain(&error));
    match error {
        SettingsError::OtherNetwork { .. } => {
            failure.hint("use another folder with --dir: one computer may have several")
        }
        SettingsError::Toml(_) => failure.hint("put the file right by hand"),
        SettingsError::Io(_) => failure.exit(Exit::Failed),
    }
}

/// Returns the addresses by which a node connects first.
fn reachable(contact: &Contact) -> Vec<String> {
    let whole = |address: &String| {
        if address.contains("/p2p/") {
            address.clone()
        } else {
            format!("{address}/p2p/{}", contact.app_server)
        }
    };
    contact.addresses.iter().map(whole).collect()
}

/// Returns what the owner agrees to.
fn offered(preview: &Preview, network: &NetworkId, preferences: &Preferences) -> String {
    let Preview {
        product,
        vendor,
        root,
        contact,
        holder,
        ..
    } = preview;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let days = product.enrolment_seconds.div_ceil(DAY_SECONDS);
    let Preferences {
        preset,
        run,
        disk,
        units,
        ..
    } = preferences;
    let (memory, minutes) = (mib(units.memory), units.minutes);
    let disk = mib(disk.max);
    let program = product.launch.join(" ");
    let (name, id, price) = (&product.name, &product.id, product.price);
    let (server, owner) = (contact.app_server, holder.owner);
    let download = mib(product.bundle.bytes);
    format!(
        "{name} ({id}) by {vendor}\n\
         \x20 license      {price}, or points for it\n\
         \x20 app server   {server} in the network {network}\n\
         \x20 vendor key   {root}\n\
         \x20 earns for    {owner}\n\
         \x20 registered   for {days} days, renewed by itself until you stop the node\n\
         This computer will run\n\
         \x20 work         programs of others in a sandbox without network or files: each at most {memory} MiB \
         of memory and {minutes} min; {disk} MiB of disk\n\
         \x20 when         run = \"{run}\", preset {preset}: `tally preferences show` has every limit\n\
         \x20 application  {program}, {download} MiB from {vendor}: a usual program with your rights, only when \
         you start it"
    )
}

async fn deliver(
    member: &Member,
    line: &Line,
    (preview, here): (&Preview, Option<&Path>),
    output: Output,
) -> Result<(), MemberError> {
    let bar = output.bar(BarUnit::Bytes);
    bar.set_message("download");
    let tell = |bytes, total| {
        bar.set_length(total);
        bar.set_position(bytes);
    };
    let delivered = match here {
        Some(file) => enrolling::unpack_own(member, &preview.product, file).await?,
        None => None,
    };
    let of = (&preview.contact, &preview.product);
    let delivered = match delivered {
        Some(path) => Ok(path),
        None => enrolling::deliver(member, line, of, tell).await,
    };
    bar.finish_and_clear();
    let path = delivered?;
    output.note(format!("application: {}", path.display()));
    Ok(())
}

fn show(
    preview: &Preview,
    registration: &Verified<Registration>,
    output: Output,
) -> Result<(), Failure> {
    let (product, expires) = (&registration.product, registration.expires);
    let value = json!({
        "product": product,
        "name": preview.product.name,
        "vendor": preview.vendor,
        "root": preview.root,
        "app_server": registration.signer(),
        "owner": registration.holder.owner,
        "device": registration.holder.device,
        "registered_until": expires,
    });
    output.result(&value, || {
        format!(
            "registered for {product} until {expires}\n\
             `tally run --role terminal` earns points; `tally redeem license {product}` spends them, or by itself with\n\
             goal = \"{product}\" under [terminal] in tally.toml; `tally start {product}` starts the application"
        )
    })
}
