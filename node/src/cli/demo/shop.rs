//! The demo's app server: a vendor sells its photo application for points, and a shop takes its vouchers.
//!
//! Everything is done by the commands, over HTTP and by the installer, as a vendor, a newcomer, an owner and a shop do it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use serde::Serialize;
use serde_json::{Value, json};
use tally_protocol::account::Money;
use tally_protocol::id::OrderId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::nodes::{NETWORK, Nodes, output};
use crate::admin::Request;
use crate::node::operator::NodeStatus;

/// The folder of the app server.
pub(super) const SHOP: &str = "app-server";
/// What it sells.
pub(super) const PRODUCT: &str = "photo-desk";
/// What a license costs.
const PRICE: &str = "5.00 EUR";
/// Points that one owner gives for it; the rest of the price is paid with money.
const AT_MOST: &str = "0.03";
/// The discount at the camera shop.
const OFFER: &str = "camera";
/// What the camera shop wants.
const FEE: &str = "12.00 EUR";
/// How often something is looked at.
const POLL: Duration = Duration::from_millis(200);
/// The largest answer that is read over HTTP.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// What one owner paid for its license.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sale {
    /// The order.
    pub(super) order: OrderId,
    /// The price.
    pub(super) fee: Money,
    /// What the coordinator owes for the points.
    pub(super) by_points: Money,
    /// What the owner paid.
    pub(super) by_owner: Money,
}

/// What the camera shop was told.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Discounted {
    /// The shop's fee.
    pub(super) fee: Money,
    /// What the customer pays.
    pub(super) due: Money,
    /// What the coordinator is charged.
    pub(super) charged: Money,
}

/// The settlement.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Settled {
    /// Redemptions.
    pub(super) redemptions: u64,
    /// What the coordinator owed for them, and has paid.
    pub(super) paid: Money,
}

/// Makes the vendor's key and the app server's, and starts it.
pub(super) async fn open(nodes: &mut Nodes, patience: Duration) -> Result<String> {
    let made = nodes.tool(SHOP, &["key", "vendor", "new"]).await?;
    let root = text(&made, "/node")?;
    let init = [
        "app",
        "init",
        "--vendor",
        "Photo Works",
        "--network",
        NETWORK,
    ];
    nodes.tool(SHOP, &init).await?;
    let config = "[app_server]\nhttp = \"127.0.0.1:0\"\n";
    std::fs::write(nodes.folder(SHOP).join("tally.toml"), config)?;
    nodes.start_app_server(SHOP, patience).await?;
    Ok(root)
}

/// Puts the application and a discount into the catalogue. The application pins the vendor's key.
pub(super) async fn sell(nodes: &Nodes, root: &str) -> Result<()> {
    // The demo's application is the example for vendors, which this program contains.
    let file = nodes.root().join(PRODUCT);
    std::fs::copy(std::env::current_exe()?, &file).context("copy the application")?;
    let file = file.display().to_string();
    let product = [
        "app",
        "product",
        "add",
        PRODUCT,
        "--name",
        "Photo desk",
        "--price",
        PRICE,
        "--file",
        &file,
        "--renew-points",
        "1",
        "--renew-days",
        "365",
        "--launch",
        PRODUCT,
        "demo-application",
        "--root",
        root,
        "--network",
        NETWORK,
        "--product",
        PRODUCT,
    ];
    nodes.tool(SHOP, &product).await?;
    let offer = [
        "app",
        "offer",
        "add",
        OFFER,
        "--title",
        "Half off at Camera Corner",
        "--percent",
        "50",
        "--at-most",
        "20.00 EUR",
    ];
    nodes.tool(SHOP, &offer).await?;
    Ok(())
}

/// Has app server and coordinator agree what points are worth. Returns that.
pub(super) async fn agree(nodes: &Nodes, patience: Duration) -> Result<String> {
    let coordinator: NodeStatus = nodes.ask_coordinator(&Request::Status).await?;
    let coordinator = coordinator.node.to_string();
    let propose = [
        "app",
        "agreement",
        "propose",
        &coordinator,
        "--value",
        "100.00 EUR",
        "--per-points",
        "1",
        "--cap",
        "1000.00 EUR",
    ];
    nodes.tool(SHOP, &propose).await?;
    let start = Instant::now();
    while nodes
        .tool("coordinator", &["agreement", "accept"])
        .await
        .is_err()
    {
        ensure!(
            start.elapsed() < patience,
            "bring the proposal to the coordinator"
        );
        tokio::time::sleep(POLL).await;
    }
    loop {
        let all = nodes.tool(SHOP, &["app", "agreement", "list"]).await?;
        if all.pointer("/0/state") == Some(&json!("in_force")) {
            return Ok("100.00 EUR for 1 point".to_owned());
        }
        ensure!(start.elapsed() < patience, "bring the agreement back");
        tokio::time::sleep(POLL).await;
    }
}

/// Enrols a computer by what the app server gives to one without Tally: fetches the archive and runs its installer,
/// with a home of its own.
pub(super) async fn install(nodes: &Nodes, name: &str) -> Result<u64> {
    let archive = http(nodes, "GET", &format!("/get/{PRODUCT}"), None).await?;
    let bytes = archive.len() as u64;
    let (home, folder) = (nodes.root().join("newcomer"), nodes.folder(name));
    let data = home.join(".local/share");
    std::fs::create_dir_all(&data)?;
    std::fs::create_dir_all(&folder)?;
    // What the installer writes is this node's folder.
    std::os::unix::fs::symlink(&folder, data.join("tally"))?;
    let unpacked = home.join("unpacked");
    let (from, to) = (archive, unpacked.clone());
    let unpack = move || tar::Archive::new(GzDecoder::new(from.as_slice())).unpack(to);
    tokio::task::spawn_blocking(unpack).await??;
    let mut command = tokio::process::Command::new("sh");
    command
        .arg(script(&unpacked)?)
        .arg("--yes")
        .env_clear()
        .env("HOME", &home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let ran = output(&mut command).await?;
    ensure!(
        ran.status.success(),
        "install: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    Ok(bytes)
}

/// Finds the installer: the archive has one folder.
fn script(unpacked: &Path) -> Result<PathBuf> {
    let direct = unpacked.join("install.sh");
    if direct.is_file() {
        return Ok(direct);
    }
    for entry in std::fs::read_dir(unpacked)? {
        let inner = entry?.path().join("install.sh");
        if inner.is_file() {
            return Ok(inner);
        }
    }
    bail!("find install.sh in the archive")
}

/// Enrols a computer that has Tally.
pub(super) async fn enrol(nodes: &Nodes, name: &str) -> Result<()> {
    let invite = nodes.root().join("invite").display().to_string();
    nodes
        .tool(SHOP, &["app", "invite", PRODUCT, "--out", &invite])
        .await?;
    nodes.tool(name, &["enroll", &invite, "--yes"]).await?;
    Ok(())
}

/// Starts the application on a computer. Returns how it ended: 0 if a license lets it start, 3 if none does.
pub(super) async fn start(nodes: &Nodes, name: &str, picture: &Path) -> Result<(i32, PathBuf)> {
    let out = nodes.root().join("thumbnail.png");
    let mut command = nodes.command(name, &["start", PRODUCT])?;
    // The application remembers in its home which time it has seen.
    command.env("HOME", nodes.root().join("newcomer"));
    let ran = output(command.arg(picture).arg(&out)).await?;
    let code = ran.status.code().context("run the application")?;
    ensure!(
        matches!(code, 0 | 3),
        "run the application: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    Ok((code, out))
}

/// Waits until the terminal has reached its goal by itself: a license that holds.
pub(super) async fn goal(nodes: &Nodes, name: &str, patience: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        let status: NodeStatus = nodes.ask(name, &Request::Status).await?;
        let goals = status.memberships.iter().filter_map(|of| of.goal.as_ref());
        let mut codes = goals.filter_map(|goal| goal.license);
        if codes.any(|code| code.allows_start()) {
            return Ok(());
        }
        let said: Vec<_> = status.memberships.iter().map(|of| &of.goal).collect();
        ensure!(start.elapsed() < patience, "reach the goal: {said:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// An owner buys a license with the points that there are, and pays the rest, which the operator enters.
pub(super) async fn buy(nodes: &Nodes, name: &str) -> Result<Sale> {
    let ordered = nodes
        .tool(name, &["redeem", "license", PRODUCT, "--at-most", AT_MOST])
        .await?;
    let order: OrderId = part(&ordered, "order")?;
    let pay = [
        "app",
        "invoice",
        "pay",
        &order.to_string(),
        "--reference",
        "demo transfer 1",
    ];
    nodes.tool(SHOP, &pay).await?;
    let fetched = nodes.tool(name, &["redeem", "license", PRODUCT]).await?;
    ensure!(
        fetched["phase"] == "fulfilled",
        "fetch the license: {fetched}"
    );
    Ok(Sale {
        order,
        fee: part(&ordered, "fee")?,
        by_points: part(&ordered, "discount")?,
        by_owner: part(&ordered, "due")?,
    })
}

/// An owner gets a voucher for points, and the camera shop uses it over HTTP.
pub(super) async fn discount(nodes: &Nodes, name: &str) -> Result<Discounted> {
    let ordered = nodes
        .tool(name, &["redeem", "discount", OFFER, "--fee", FEE])
        .await?;
    let voucher = text(&ordered, "/text")?;
    let new = [
        "app",
        "token",
        "new",
        "--kind",
        "shop",
        "--name",
        "camera-corner",
    ];
    let token = text(&nodes.tool(SHOP, &new).await?, "/token")?;
    let fee: Money = FEE.parse()?;
    let body = json!({
        "voucher": voucher,
        "fee": {"currency": fee.currency, "minor": fee.minor},
    });
    let answer = http(nodes, "POST", "/v1/vouchers/use", Some((&token, &body))).await?;
    let split: Value = serde_json::from_slice(&answer).context("read what the app server says")?;
    let amount = |name: &str| -> Result<Money> {
        let minor = part(&split[name], "minor")?;
        let currency = part(&split[name], "currency")?;
        Ok(Money { currency, minor })
    };
    Ok(Discounted {
        fee,
        due: amount("due")?,
        charged: amount("charged")?,
    })
}

/// Both sides settle: stated, countersigned, paid, and entered as paid on both sides.
pub(super) async fn settle(nodes: &Nodes, patience: Duration) -> Result<Settled> {
    let shop: NodeStatus = nodes.ask(SHOP, &Request::Status).await?;
    let coordinator: NodeStatus = nodes.ask_coordinator(&Request::Status).await?;
    let (shop, coordinator) = (shop.node.to_string(), coordinator.node.to_string());
    let stated = nodes
        .tool(SHOP, &["app", "settle", "with", &coordinator])
        .await?;
    let number = stated["number"].to_string();
    let start = Instant::now();
    loop {
        let all = nodes
            .tool(SHOP, &["app", "settle", "list", &coordinator])
            .await?;
        if all.pointer("/0/agreed/0").is_some() {
            break;
        }
        ensure!(
            start.elapsed() < patience,
            "have the settlement countersigned"
        );
        tokio::time::sleep(POLL).await;
    }
    let reference = ["--reference", "demo settlement 1"];
    let pay = [&["agreement", "pay", &shop, &number][..], &reference].concat();
    nodes.tool("coordinator", &pay).await?;
    let paid = [
        &["app", "settle", "paid", &coordinator, &number][..],
        &reference,
    ]
    .concat();
    nodes.tool(SHOP, &paid).await?;
    let minor = stated["due"].as_u64().context("read what is due")?;
    Ok(Settled {
        redemptions: stated
            .pointer("/redeemed/count")
            .and_then(Value::as_u64)
            .unwrap_or(0),
        paid: Money {
            currency: part(&stated, "currency")?,
            minor,
        },
    })
}

fn part<T: serde::de::DeserializeOwned>(of: &Value, name: &str) -> Result<T> {
    serde_json::from_value(of[name].clone()).with_context(|| format!("read {name} in {of}"))
}

fn text(of: &Value, pointer: &str) -> Result<String> {
    let found = of.pointer(pointer).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("read {pointer}"))
}

/// Asks the app server over HTTP, in the plainest way there is.
async fn http(
    nodes: &Nodes,
    method: &str,
    path: &str,
    body: Option<(&str, &Value)>,
) -> Result<Vec<u8>> {
    let shop: NodeStatus = nodes.ask(SHOP, &Request::Status).await?;
    let address = shop
        .http
        .context("find where the app server answers HTTP")?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    let sent = match body {
        Some((token, body)) => {
            let sent = body.to_string();
            head += &format!(
                "Authorization: Bearer {token}\r\nContent-Type: application/json\r\nIdempotency-Key: demo-1\r\n\
                 Content-Length: {}\r\n",
                sent.len()
            );
            sent
        }
        None => String::new(),
    };
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("{head}\r\n{sent}").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let content = answer.split_off(end.context("read an answer over HTTP")? + 4);
    let status = String::from_utf8_lossy(&answer);
    let status = status.lines().next().unwrap_or_default();
    ensure!(
        status.contains(" 200 "),
        "ask {path}: {status}: {}",
        String::from_utf8_lossy(&content)
    );
    Ok(content)
}
