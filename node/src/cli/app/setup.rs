//! The issuer key and the vendor's word for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::issuer::IssuerCertificate;
use tally_protocol::signed::{Signed, Verified};

use super::DAY_SECONDS;
use crate::cli::{Common, Exit, Failure};
use crate::clock;
use crate::config::{Config, Optional};
use crate::folder::Folder;
use crate::issuing::{self, IssuingError};
use crate::keys::{self, Kind};

/// `tally app init`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Init {
    #[command(flatten)]
    vendor: Vendor,
    #[command(flatten)]
    network: Network,
}

/// What a certificate says.
#[derive(Debug, Args)]
struct Vendor {
    /// The vendor's name, as people know it.
    #[arg(long, value_name = "TEXT")]
    vendor: Option<String>,
    /// The vendor's key. [default: vendor-key in the data folder]
    #[arg(long, value_name = "FILE")]
    vendor_key: Option<PathBuf>,
    /// For how many days the app server may issue.
    #[arg(long, default_value_t = 365, value_name = "N")]
    days: u32,
}

/// `tally app certify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Certify {
    #[command(flatten)]
    vendor: Vendor,
    /// The issuer key of the app server, as `tally app show` says there. [default: that of the data folder]
    #[arg(long, value_name = "ID", requires = "app_server")]
    issuer: Option<NodeId>,
    /// The app server. [default: the node of the data folder]
    #[arg(long, value_name = "ID", requires = "issuer")]
    app_server: Option<NodeId>,
    /// Write the certificate here, to be carried to the app server. [default: install it in the data folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
}

/// `tally app install`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Install {
    /// The file that `tally app certify --out` wrote.
    file: PathBuf,
    #[command(flatten)]
    network: Network,
}

/// Which network this is for.
#[derive(Debug, Args)]
pub(in crate::cli) struct Network {
    /// The name of the network. [default: what tally.toml says]
    #[arg(long, value_name = "NAME")]
    network: Option<NetworkId>,
}

impl Network {
    fn id(&self, folder: &Folder) -> Result<NetworkId, Failure> {
        match &self.network {
            Some(network) => Ok(network.clone()),
            None => Ok(Config::read(&folder.config(), Optional::Yes)?.network),
        }
    }

    pub(super) fn show(self, common: &Common) -> Result<(), Failure> {
        let folder = common.folder()?;
        show(common, &folder, &self.id(&folder)?)
    }
}

impl Init {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let folder = common.folder()?;
        let network = self.network.id(&folder)?;
        if !folder.key().exists() {
            keys::create(&folder.key())?;
        }
        if !folder.issuer_key().exists() {
            keys::create_of(Kind::Issuer, &folder.issuer_key())?;
        }
        let has_key = self.vendor.vendor_key.is_some() || folder.vendor_key().exists();
        if has_key && !folder.issuer_certificate().exists() {
            let (issuer, app_server) = own(&folder)?;
            let made = self
                .vendor
                .certify(&folder, (issuer, app_server), &network)?;
            issuing::write(&folder, &made)?;
        }
        show(common, &folder, &network)
    }
}

impl Vendor {
    fn certify(
        self,
        folder: &Folder,
        (issuer, app_server): (NodeId, NodeId),
        network: &NetworkId,
    ) -> Result<Verified<IssuerCertificate>, Failure> {
        let name = self.vendor.ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "certify the issuer key: the vendor has no name",
            )
            .hint("give it with --vendor \"...\"")
        })?;
        let path = self.vendor_key.unwrap_or_else(|| folder.vendor_key());
        let root = keys::read_of(Kind::Vendor, &path)?;
        let now = clock::now();
        let certificate = IssuerCertificate {
            issuer,
            app_server,
            vendor: name,
            not_before: now,
            not_after: now + Duration::from_secs(u64::from(self.days) * DAY_SECONDS),
            // Whoever certifies again later makes the newer one.
            serial: now.as_millis(),
        };
        Ok(issuing::certify(certificate, network, &root)?)
    }
}

impl Certify {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let folder = common.folder()?;
        let network = self.network.id(&folder)?;
        let keys = match (self.issuer, self.app_server) {
            (Some(issuer), Some(app_server)) => (issuer, app_server),
            _ => own(&folder)?,
        };
        let made = self.vendor.certify(&folder, keys, &network)?;
        match self.out {
            Some(file) => {
                std::fs::write(&file, made.signed().to_text())?;
                print(common, &made, &file)
            }
            None => {
                install(&folder, &made)?;
                show(common, &folder, &network)
            }
        }
    }
}

impl Install {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let folder = common.folder()?;
        let network = self.network.id(&folder)?;
        let text = std::fs::read_to_string(&self.file)?;
        let made = Signed::<IssuerCertificate>::from_text(&text)?.verify(&network)?;
        install(&folder, &made)?;
        show(common, &folder, &network)
    }
}

/// Installs a certificate that is for the keys of this folder.
fn install(folder: &Folder, made: &Verified<IssuerCertificate>) -> Result<(), Failure> {
    let (issuer, app_server) = own(folder)?;
    if (made.issuer, made.app_server) != (issuer, app_server) {
        let message = format!(
            "install the certificate: it is for the issuer key {} of {}, this is {issuer} of {app_server}",
            made.issuer, made.app_server
        );
        return Err(Failure::new(Exit::Usage, message).hint("`tally app show` shows both"));
    }
    Ok(issuing::write(folder, made)?)
}

/// Returns the issuer key and the node of a folder.
fn own(folder: &Folder) -> Result<(NodeId, NodeId), Failure> {
    let issuer = keys::read_of(Kind::Issuer, &folder.issuer_key())?;
    let node = keys::read(&folder.key())?;
    Ok((keys::node_id(&issuer), keys::node_id(&node)))
}

fn show(common: &Common, folder: &Folder, network: &NetworkId) -> Result<(), Failure> {
    let (issuer, app_server) = own(folder)?;
    match issuing::read(folder, network) {
        Ok(made) => print(common, &made, &folder.issuer_certificate()),
        Err(IssuingError::Missing(_)) => {
            let value = json!({"app_server": app_server, "issuer": issuer, "certificate": null});
            common.output().result(&value, || {
                format!(
                    "app server  {app_server}\nissuer      {issuer}\nvendor      not certified yet"
                )
            })?;
            common.output().note(format!(
                "the vendor certifies it with: tally app certify --vendor NAME --vendor-key FILE --network {network} \
                 --issuer {issuer} --app-server {app_server} --out issuer-certificate\n\
                 and here: tally app install issuer-certificate"
            ));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn print(
    common: &Common,
    made: &Verified<IssuerCertificate>,
    file: &std::path::Path,
) -> Result<(), Failure> {
    let value = json!({
        "app_server": made.app_server, "issuer": made.issuer, "vendor": made.vendor, "root": made.signer(),
        "not_before": made.not_before, "not_after": made.not_after, "serial": made.serial, "certificate": file,
    });
    common.output().result(&value, || {
        format!(
            "app server  {}\nissuer      {}\nvendor      {}\nroot        {}\nuntil       {}\nfile        {}",
            made.app_server,
            made.issuer,
            made.vendor,
            made.signer(),
            made.not_after,
            file.display()
        )
    })
}
