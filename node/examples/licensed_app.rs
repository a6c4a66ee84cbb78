//! A small photo application that starts only with a license: what a vendor writes in Rust, with `tally-protocol` alone.
//!
//! ```text
//! licensed_app [--root ID] [--network NAME] [--product NAME] PICTURE OUT.png
//! ```
//!
//! It makes a grey thumbnail of a picture. Before that it asks whether it may: [`check`] is all that a vendor copies. The
//! license and the status list are where `tally start` says (`TALLY_LICENSE`, `TALLY_STATUS_LIST`), the proof that this is
//! one of the license's computers comes from the socket `TALLY_SOCKET`. The pins belong into the program: here they are
//! those of the build (`PHOTO_ROOT`, `PHOTO_NETWORK`, `PHOTO_PRODUCT`), and for trying it out the command line may replace
//! them, which a real application must not let anybody do.
//!
//! `licensed_app.py` beside it does the same check in Python. Ends with 0 if the picture is written, 3 if the license does
//! not let it start, else 1.
#![expect(
    clippy::print_stderr,
    reason = "an application talks to whoever started it"
)]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use data_encoding::{BASE64, HEXLOWER};
use tally_imaging::{DecodeLimits, Picture, decode_file, encode_png};
use tally_protocol::id::LicenseId;
use tally_protocol::issuer::Trust;
use tally_protocol::license::{
    Challenge, Code, DeviceProof, Known, License, Pins, StatusList, Verdict, verify,
};
use tally_protocol::signed::Signed;
use tally_protocol::time::Timestamp;

/// The vendor's root key, if the build does not say another: that of the truth table in `protocol/tests/golden`.
const ROOT: &str = "12D3KooWGnJTo3CN65kbjriJFucXdwRaA24EMjaf4xxJCvdGYEkj";
/// The longest side of a thumbnail, in pixels.
const SIDE_MAX: u32 = 256;
/// How long the terminal may take to answer a challenge.
const PROOF_MAX: Duration = Duration::from_secs(10);

type Failed = Box<dyn Error>;

fn main() -> ExitCode {
    start(env::args().skip(1).collect())
}

/// Runs the application with the arguments that it was started with.
pub(crate) fn start(args: Vec<String>) -> ExitCode {
    match run(args) {
        Ok(code) if code.allows_start() => ExitCode::SUCCESS,
        Ok(code) => {
            eprintln!("no license lets this application start: {code}");
            eprintln!("{}", hint(code));
            ExitCode::from(3)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> Result<Code, Failed> {
    let (pins, files) = pins(args)?;
    let [picture, out] = files.as_slice() else {
        return Err("usage: licensed_app PICTURE OUT.png".into());
    };
    let code = check(&pins)?;
    if code.allows_start() {
        thumbnail(Path::new(picture), Path::new(out))?;
    }
    Ok(code)
}

// ---- What a vendor copies. ----

/// Says whether a license lets the application start: the best of those that are there.
fn check(pins: &Pins) -> Result<Code, Failed> {
    let Some(path) = env::var_os("TALLY_LICENSE").map(PathBuf::from) else {
        return Ok(Code::Malformed);
    };
    let list = env::var_os("TALLY_STATUS_LIST").and_then(|path| fs::read(path).ok());
    let list = list.map(Signed::<StatusList>::from_bytes);
    let seen_path = PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".photo-seen");
    let seen = fs::read_to_string(&seen_path).ok();
    let seen = seen.and_then(|text| text.trim().parse().ok());
    let seen = Timestamp::from_millis(seen.unwrap_or_default());
    let mut following = path.clone().into_os_string();
    // A renewal lies beside the license that it follows.
    following.push(".next");
    let texts = [path, following.into()].map(fs::read_to_string);
    let verdicts = texts.into_iter().filter_map(Result::ok);
    let verdicts = verdicts.map(|text| verdict(&text, pins, (seen, list.as_ref())));
    let Some(best) = verdicts.min_by_key(|verdict| verdict.code) else {
        return Ok(Code::Malformed);
    };
    if best.seen > seen {
        fs::write(&seen_path, best.seen.as_millis().to_string())?;
    }
    Ok(best.code)
}

/// Checks one license; if it names computers, with the terminal's answer to a fresh challenge.
fn verdict(
    text: &str,
    pins: &Pins,
    (seen, status): (Timestamp, Option<&Signed<StatusList>>),
) -> Verdict {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    let mut known = Known {
        now: Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)),
        seen,
        status,
        challenge: None,
    };
    let license = Signed::<License>::from_text(text);
    let license = license
        .ok()
        .and_then(|signed| pins.trust.check(signed).ok());
    let Some(license) = license else {
        return verify(text, pins, &known);
    };
    let license = license.statement();
    if license.devices.is_empty() {
        return verify(text, pins, &known);
    }
    let nonce: [u8; 32] = rand::random();
    let proof = proof(license.id, nonce).ok();
    known.challenge = proof.as_ref().map(|proof| Challenge { nonce, proof });
    verify(text, pins, &known)
}

/// Asks the terminal of this computer to sign a nonce: one line of JSON each way.
fn proof(license: LicenseId, nonce: [u8; 32]) -> Result<Signed<DeviceProof>, Failed> {
    let socket = env::var_os("TALLY_SOCKET").ok_or("TALLY_SOCKET is not set")?;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PROOF_MAX))?;
    let nonce = HEXLOWER.encode(&nonce);
    let question = serde_json::json!({"ask": "prove", "license": license, "nonce": nonce});
    writeln!(stream, "{question}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: serde_json::Value = serde_json::from_str(&line)?;
    let text = answer["ok"].as_str().ok_or("the terminal refuses")?;
    Ok(Signed::from_bytes(BASE64.decode(text.as_bytes())?))
}

/// Returns what the user can do.
const fn hint(code: Code) -> &'static str {
    match code {
        Code::Valid | Code::Grace => "",
        Code::StatusStale => "connect this computer and run `tally license apply photo`",
        Code::Expired => "renew it: `tally license renew photo`, or redeem points for another",
        Code::NotYet => "it begins later",
        Code::ClockRollback => "put this computer's clock right",
        Code::Suspended | Code::Revoked => "ask the vendor",
        Code::DeviceMismatch => {
            "it is for another computer: start the application with `tally start`"
        }
        Code::ProductMismatch | Code::UnknownKey | Code::BadSignature | Code::Malformed => {
            "get one: `tally redeem license photo`, and start with `tally start photo`"
        }
    }
}

// ---- The application. ----

/// Returns what is pinned, and the other arguments.
fn pins(args: Vec<String>) -> Result<(Pins, Vec<String>), Failed> {
    let mut root = option_env!("PHOTO_ROOT").unwrap_or(ROOT).to_owned();
    let mut network = option_env!("PHOTO_NETWORK").unwrap_or("tally").to_owned();
    let mut product = option_env!("PHOTO_PRODUCT").unwrap_or("photo").to_owned();
    let (mut files, mut args) = (Vec::new(), args.into_iter());
    while let Some(arg) = args.next() {
        let pinned = match arg.as_str() {
            "--root" => &mut root,
            "--network" => &mut network,
            "--product" => &mut product,
            _ => {
                files.push(arg);
                continue;
            }
        };
        *pinned = args.next().ok_or("an option without its value")?;
    }
    let trust = Trust {
        roots: vec![root.parse()?],
        network: network.parse()?,
    };
    let product = product.parse()?;
    Ok((Pins { trust, product }, files))
}

/// Writes a grey picture with at most [`SIDE_MAX`] pixels a side: of each block of pixels the first one.
fn thumbnail(picture: &Path, out: &Path) -> Result<(), Failed> {
    let picture = decode_file(picture, DecodeLimits::default())?;
    let step = picture.width().max(picture.height()).div_ceil(SIDE_MAX);
    let (width, height) = (
        picture.width().div_ceil(step),
        picture.height().div_ceil(step),
    );
    let row = picture.width() as usize * 4;
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let at = (y * step) as usize * row + (x * step) as usize * 4;
            let [red, green, blue, alpha] = picture.pixels()[at..at + 4] else {
                continue;
            };
            // The weights of ITU-R BT.601, in 256ths.
            let grey = 77 * u32::from(red) + 150 * u32::from(green) + 29 * u32::from(blue);
            let grey = u8::try_from(grey >> 8).unwrap_or(u8::MAX);
            pixels.extend([grey, grey, grey, alpha]);
        }
    }
    let small = Picture::new(width, height, pixels).ok_or("the picture has no pixels")?;
    encode_png(&small, fs::File::create(out)?)?;
    Ok(())
}
