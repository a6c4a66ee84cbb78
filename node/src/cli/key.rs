//! `tally key`: the node's name is its key, and a person's key says whose computers these are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;
use serde_json::json;
use tally_protocol::certificate::{DeviceCertificate, LIFE_MAX};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::points::Points;
use tally_protocol::signed::Verified;

use super::{Common, Exit, Failure};
use crate::certificates::{self, Certified};
use crate::clock;
use crate::config::{Config, Optional};
use crate::folder::Folder;
use crate::keys::{self, KeyError, Kind};

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// `tally key`.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a new key in the data folder.
    New,
    /// Show the node id that belongs to the key, and for whom the node earns.
    Show {
        #[command(flatten)]
        network: Network,
    },
    /// Write a copy of the key to a file, readable by you only.
    Backup {
        /// The file; must not exist.
        file: PathBuf,
    },
    /// Make or show your own key, which certifies your computers.
    #[command(subcommand)]
    Owner(Person),
    /// Make or show a vendor's root key, which certifies app servers; applications have its id.
    #[command(subcommand)]
    Vendor(Person),
    /// Say, with your own key, that a computer earns for you.
    Certify(Certify),
    /// Install a certificate that was made on another computer.
    Install {
        /// The file that `tally key certify --out` wrote.
        file: PathBuf,
        #[command(flatten)]
        network: Network,
    },
}

/// `tally key owner` and `tally key vendor`.
#[derive(Debug, Subcommand)]
pub(super) enum Person {
    /// Make the key.
    New {
        /// Where; must not exist. [default: owner-key or vendor-key in the data folder]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show the id that belongs to the key.
    Show {
        /// Where it is. [default: owner-key or vendor-key in the data folder]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// `tally key certify`.
#[derive(Debug, Args)]
pub(super) struct Certify {
    /// The computer. [default: the node of the data folder]
    #[arg(long, value_name = "ID")]
    device: Option<NodeId>,
    /// For how many days, at most five years.
    #[arg(long, default_value_t = 365, value_name = "N")]
    days: u32,
    /// Your key. [default: owner-key in the data folder]
    #[arg(long, value_name = "FILE")]
    owner_key: Option<PathBuf>,
    /// The most points that the computer itself may redeem in your name in a day: what `goal` and `tally redeem` need on
    /// it if your key is not there.
    #[arg(long, default_value_t = Points::ZERO, value_name = "POINTS")]
    redeem_points: Points,
    /// Write the certificate here, to be carried to that computer. [default: install it in the data folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
}

/// Which network a certificate is for.
#[derive(Debug, Args)]
pub(super) struct Network {
    /// The name of the network. [default: what tally.toml says]
    #[arg(long, value_name = "NAME")]
    network: Option<NetworkId>,
}

impl Key {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let (folder, output) = (common.folder()?, common.output());
        let path = folder.key();
        match self {
            Self::New => {
                let key = created(Kind::Node, &path)?;
                show(common, &key, &path)
            }
            Self::Show { network } => show_node(common, &folder, &network),
            Self::Backup { file } => {
                let key = read(Kind::Node, &path)?;
                keys::write(&file, &key)?;
                output.note(format!(
                    "the key is in {}; whoever has this file is this node",
                    file.display()
                ));
                show(common, &key, &path)
            }
            Self::Owner(owner) => owner.run(common, (Kind::Owner, folder.owner_key())),
            Self::Vendor(vendor) => vendor.run(common, (Kind::Vendor, folder.vendor_key())),
            Self::Certify(certify) => certify.run(common, &folder),
            Self::Install { file, network } => install(common, &folder, (&file, &network)),
        }
    }
}

impl Person {
    fn run(self, common: &Common, (kind, default): (Kind, PathBuf)) -> Result<(), Failure> {
        match self {
            Self::New { file } => {
                let path = file.unwrap_or(default);
                let key = created(kind, &path)?;
                let worth = match kind {
                    Kind::Vendor => "whoever has it can issue licenses of your applications",
                    Kind::Owner | Kind::Node | Kind::Issuer => {
                        "what your computers earn is spent with it"
                    }
                };
                common.output().note(format!(
                    "your key is in {}; keep a copy in a safe place, {worth}",
                    path.display()
                ));
                show(common, &key, &path)
            }
            Self::Show { file } => {
                let path = file.unwrap_or(default);
                show(common, &read(kind, &path)?, &path)
            }
        }
    }
}

impl Certify {
    fn run(self, common: &Common, folder: &Folder) -> Result<(), Failure> {
        let life = Duration::from_secs(u64::from(self.days) * DAY_SECONDS);
        if life.is_zero() || life > LIFE_MAX {
            let most = LIFE_MAX.as_secs() / DAY_SECONDS;
            let message = format!("certify for {} days: it must be 1 to {most}", self.days);
            return Err(Failure::new(Exit::Usage, message));
        }
        let network = self.network.id(folder)?;
        let path = self.owner_key.unwrap_or_else(|| folder.owner_key());
        let owner = read(Kind::Owner, &path)?;
        let device = match self.device {
            Some(device) => device,
            None => keys::node_id(&read(Kind::Node, &folder.key())?),
        };
        if self.out.is_none() && self.device.is_some() {
            let own = keys::read(&folder.key())
                .ok()
                .map(|key| keys::node_id(&key));
            if own != Some(device) {
                let message = "install the certificate of another computer here";
                let hint = "write it to a file with --out, and install it there with `tally key install FILE`";
                return Err(Failure::new(Exit::Usage, message).hint(hint));
            }
        }
        let until = (clock::now(), life);
        let made = certificates::certify(&owner, (device, self.redeem_points), until, &network);
        let installed = self.out.is_none();
        let file = self.out.unwrap_or_else(|| folder.certificate());
        certificates::write(&file, &made)?;
        if installed {
            common
                .output()
                .note("a node that runs on this folder shows it when it is started again");
        }
        show_certificate(common, &made, &file)
    }
}

impl Network {
    fn id(&self, folder: &Folder) -> Result<NetworkId, Failure> {
        match &self.network {
            Some(network) => Ok(network.clone()),
            None => Ok(Config::read(&folder.config(), Optional::Yes)?.network),
        }
    }
}

fn install(
    common: &Common,
    folder: &Folder,
    (file, network): (&Path, &Network),
) -> Result<(), Failure> {
    let device = keys::node_id(&read(Kind::Node, &folder.key())?);
    let found = certificates::read(file, &network.id(folder)?)?;
    let Some(certificate) = found else {
        let message = format!(
            "read the certificate {}: there is no such file",
            file.display()
        );
        return Err(Failure::new(Exit::NotFound, message));
    };
    if let Certified::Not(fault) = certificates::standing(&certificate, device, clock::now()) {
        let message = format!("install the certificate {}: {fault}", file.display());
        let hint =
            format!("certify this computer: `tally key certify --device {device} --out FILE`");
        return Err(Failure::new(Exit::Usage, message).hint(hint));
    }
    let place = folder.certificate();
    certificates::write(&place, &certificate)?;
    let note = "a node that runs on this folder shows it when it is started again";
    common.output().note(note);
    show_certificate(common, &certificate, &place)
}

fn created(kind: Kind, path: &Path) -> Result<SigningKey, Failure> {
    keys::create_of(kind, path).map_err(|error| {
        let exists = matches!(error, KeyError::Exists(_));
        let failure = Failure::from(error);
        let hint = match kind {
            Kind::Node => "`tally key show` shows it; another --dir has another key",
            Kind::Owner => "`tally key owner show` shows it; --file names another place",
            Kind::Vendor => "`tally key vendor show` shows it; --file names another place",
            Kind::Issuer => "`tally app show` shows it; another --dir has another app server",
        };
        if exists { failure.hint(hint) } else { failure }
    })
}

fn show(common: &Common, key: &SigningKey, path: &Path) -> Result<(), Failure> {
    let node = keys::node_id(key);
    let value = json!({"node": node, "file": path});
    common.output().result(&value, || node.to_string())
}

/// Shows the node's id and, to people who ask for it on standard error, for whom it earns.
fn show_node(common: &Common, folder: &Folder, network: &Network) -> Result<(), Failure> {
    let path = folder.key();
    let node = keys::node_id(&read(Kind::Node, &path)?);
    let found = certificates::read(&folder.certificate(), &network.id(folder)?)?;
    let now = clock::now();
    let standing = found
        .as_ref()
        .map(|shown| (shown, certificates::standing(shown, node, now)));
    let (owner, note) = match &standing {
        None => (node, None),
        Some((shown, Certified::Holds)) => {
            let note = format!("earns for {} until {}", shown.signer(), shown.not_after);
            (shown.signer(), Some(note))
        }
        Some((shown, Certified::EndsSoon)) => {
            let (owner, until) = (shown.signer(), shown.not_after);
            let note =
                format!("earns for {owner} until {until}: renew it with `tally key certify`");
            (owner, Some(note))
        }
        Some((_, Certified::Not(fault))) => {
            let note =
                format!("earns for itself, because {fault}: renew it with `tally key certify`");
            (node, Some(note))
        }
    };
    let until = found.as_ref().map(|shown| shown.not_after);
    let value = json!({"node": node, "file": path, "owner": owner, "certified_until": until});
    common.output().result(&value, || node.to_string())?;
    if let Some(note) = note.filter(|_| !common.output().is_json()) {
        common.output().note(note);
    }
    Ok(())
}

fn show_certificate(
    common: &Common,
    certificate: &Verified<DeviceCertificate>,
    file: &Path,
) -> Result<(), Failure> {
    let (device, owner) = (certificate.device, certificate.signer());
    let until = certificate.not_after;
    let value = json!({
        "device": device, "owner": owner, "not_before": certificate.not_before, "not_after": until,
        "serial": certificate.serial, "redeem_points": certificate.redeem_points, "file": file,
    });
    common.output().result(&value, || {
        format!(
            "device  {device}\nowner   {owner}\nuntil   {until}\nspends  {} points a day at most\nfile    {}",
            certificate.redeem_points,
            file.display()
        )
    })
}

fn read(kind: Kind, path: &Path) -> Result<SigningKey, Failure> {
    keys::read_of(kind, path).map_err(|error| {
        let missing = matches!(error, KeyError::Missing { .. });
        Failure::from(error).exit(if missing {
            Exit::NotFound
        } else {
            Exit::Failed
        })
    })
}
