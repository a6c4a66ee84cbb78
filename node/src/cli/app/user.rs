//! Who is registered, and the licenses that were issued.

use clap::Subcommand;
use serde_json::json;
use tally_protocol::app_server::Command as Order;
use tally_protocol::id::{LicenseId, NodeId};
use tally_protocol::license::Status;
use tally_protocol::purse::PointsAt;

use super::{command, done, put, status_name};
use crate::app_server::operator::{AppAsk, DeviceView, UserView};
use crate::cli::output::table;
use crate::cli::{Common, Failure};

/// `tally app user`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum User {
    /// List the owners with registered computers.
    List,
    /// Show an owner's computers, points and orders.
    Show {
        /// The owner.
        owner: NodeId,
    },
    /// End the registration of a computer: coordinators lease it nothing more.
    Revoke {
        /// The computer.
        device: NodeId,
        /// Why; the coordinators are told.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// `tally app license`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum License {
    /// Let a license hold no more for now.
    Suspend {
        /// Its id.
        license: LicenseId,
    },
    /// Let a suspended license hold again.
    Restore {
        /// Its id.
        license: LicenseId,
    },
    /// Let a license hold no more, for ever. `tally app order refund` gives points and money back as well.
    Revoke {
        /// Its id.
        license: LicenseId,
    },
}

impl User {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::List => {
                let users: Vec<UserView> = put(common, AppAsk::Users).await?;
                common.output().result(&users, || {
                    if users.is_empty() {
                        return "nobody is registered yet: `tally app invite PRODUCT`".to_owned();
                    }
                    let row = |user: &UserView| {
                        vec![
                            user.owner.to_string(),
                            user.devices.len().to_string(),
                            user.orders.len().to_string(),
                        ]
                    };
                    let rows: Vec<_> = users.iter().map(row).collect();
                    table(&["owner", "computers", "orders"], &rows)
                })
            }
            Self::Show { owner } => {
                let user: UserView = put(common, AppAsk::User { owner }).await?;
                common.output().result(&user, || shown(&user))
            }
            Self::Revoke { device, reason } => {
                let () = command(common, Order::Revoke { device, reason }).await?;
                let text = format!("{device} is not registered any more");
                done(common, &json!({"revoked": device}), &text)
            }
        }
    }
}

fn shown(user: &UserView) -> String {
    let device = |device: &DeviceView| {
        let standing = match (device.registered_until, device.revoked) {
            (Some(until), _) => format!("until {until}"),
            (None, Some(at)) => format!("revoked {at}"),
            (None, None) => String::new(),
        };
        vec![device.device.short(), standing]
    };
    let devices: Vec<_> = user.devices.iter().map(device).collect();
    let points = |at: &PointsAt| {
        vec![
            at.coordinator.short(),
            at.earned.to_string(),
            at.escrowed.to_string(),
            at.spendable.to_string(),
            at.redeemed.to_string(),
        ]
    };
    let points: Vec<_> = user.points.iter().map(points).collect();
    let mut text = format!("owner {}\n\n", user.owner);
    text += &table(&["computer", "registered"], &devices);
    text.push('\n');
    text += &if points.is_empty() {
        "no coordinator has told of points yet\n".to_owned()
    } else {
        table(
            &["coordinator", "earned", "in escrow", "to spend", "redeemed"],
            &points,
        )
    };
    for order in &user.orders {
        text += &format!("\norder {order}");
    }
    text
}

impl License {
    pub(in crate::cli) async fn run(self, common: &Common) -> Result<(), Failure> {
        let (license, status) = match self {
            Self::Suspend { license } => (license, Status::Suspended),
            Self::Restore { license } => (license, Status::Valid),
            Self::Revoke { license } => (license, Status::Revoked),
        };
        let () = command(common, Order::SetStatus(license, status)).await?;
        let text = format!(
            "license {license} is {}; applications know it with the next status list",
            status_name(status)
        );
        done(
            common,
            &json!({"license": license, "status": status}),
            &text,
        )
    }
}
