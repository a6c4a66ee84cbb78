//! The licenses of a product: judged by the root that was pinned, and put where the application looks.
//!
//! A renewal may begin where the license before it ends, so there are up to two: `licenses/PRODUCT.license` is the better
//! one, `licenses/PRODUCT.license.next` the one that follows it. The application finds copies of both as `license` and
//! `license.next` in its folder, with the newest status list as `status-list`, and goes by the better one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tally_protocol::issuer::Trust;
use tally_protocol::license::{Challenge, Code, Known, License, Pins, StatusList, Verdict, verify};
use tally_protocol::product::ProductId;
use tally_protocol::signed::Signed;
use tally_protocol::time::Timestamp;

use super::enrolling::check_list;
use super::kept::Membership;
use super::ordering::write;
use super::{Member, MemberError};
use crate::clock;

/// Returns what is trusted of an app server: the root that was pinned when the computer enrolled.
#[must_use]
pub fn trust(member: &Member, membership: &Membership) -> Trust {
    Trust {
        roots: vec![membership.root],
        network: member.network().clone(),
    }
}

/// Returns the place of the license that follows another.
#[must_use]
pub fn next(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

/// The licenses of a product on this computer.
#[derive(Debug)]
pub struct Shelf<'a> {
    member: &'a Member,
    membership: &'a Membership,
    product: &'a ProductId,
}

/// A license, and what is the case with it.
#[derive(Debug, Clone)]
pub struct Judged {
    /// As it was issued.
    pub license: Signed<License>,
    /// What is the case.
    pub verdict: Verdict,
}

impl Judged {
    /// Returns what the license says; none if it cannot be believed.
    #[must_use]
    pub fn content(&self) -> Option<&License> {
        let certified = self.verdict.license.as_ref()?;
        Some(certified.statement().value())
    }

    fn expires(&self) -> Timestamp {
        self.content().map_or(Timestamp::default(), |of| of.expires)
    }
}

impl<'a> Shelf<'a> {
    /// Returns the licenses of a product.
    #[must_use]
    pub const fn new(
        member: &'a Member,
        membership: &'a Membership,
        product: &'a ProductId,
    ) -> Self {
        Self {
            member,
            membership,
            product,
        }
    }

    fn place(&self) -> PathBuf {
        self.member.folder().license(self.product)
    }

    fn application(&self) -> PathBuf {
        self.member.folder().application(self.product)
    }

    /// Returns where the application finds its license.
    #[must_use]
    pub fn applied(&self) -> PathBuf {
        self.application().join("license")
    }

    /// Returns where the application finds the status list.
    #[must_use]
    pub fn list_path(&self) -> PathBuf {
        self.application().join("status-list")
    }

    /// Returns the newest status list that was kept.
    ///
    /// # Errors
    /// [`MemberError::Io`] if it cannot be read.
    pub fn list(&self) -> Result<Option<Signed<StatusList>>, MemberError> {
        let bytes = read_if_there(&self.list_path())?;
        Ok(bytes.map(Signed::from_bytes))
    }

    /// Keeps a status list if it is the app server's and newer than what is there. Returns whether it was.
    ///
    /// # Errors
    /// [`MemberError`] if it is another's, or the disk says no.
    pub fn keep_list(&self, list: &Signed<StatusList>) -> Result<bool, MemberError> {
        let of = (
            self.member.network(),
            self.membership.root,
            self.membership.app_server,
        );
        let issued = check_list(list, of)?.statement().issued;
        let known = self.list()?.and_then(|known| check_list(&known, of).ok());
        if known.is_some_and(|known| known.statement().issued >= issued) {
            return Ok(false);
        }
        write(&self.list_path(), list.as_bytes())?;
        Ok(true)
    }

    /// Returns the licenses that are there, the best first.
    ///
    /// # Errors
    /// [`MemberError::Io`] if they cannot be read.
    pub fn judge(&self) -> Result<Vec<Judged>, MemberError> {
        let (place, list) = (self.place(), self.list()?);
        let mut all = Vec::new();
        for path in [place.clone(), next(&place)] {
            let text =
                read_if_there(&path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let license = text.and_then(|text| Signed::from_text(&text).ok());
            all.extend(license.map(|license| self.judged(license, list.as_ref())));
        }
        sort(&mut all);
        Ok(all)
    }

    fn judged(&self, license: Signed<License>, list: Option<&Signed<StatusList>>) -> Judged {
        let pins = Pins {
            trust: trust(self.member, self.membership),
            product: self.product.clone(),
        };
        let nonce = rand::random();
        let content = pins.trust.check(license.clone());
        let proof = content.map(|of| self.member.prove(of.statement().id, nonce));
        let known = Known {
            now: clock::now(),
            seen: self.membership.seen,
            status: list,
            challenge: proof.as_ref().ok().map(|proof| Challenge { nonce, proof }),
        };
        let verdict = verify(&license.to_text(), &pins, &known);
        Judged { license, verdict }
    }

    /// Keeps a license that was issued, and puts it where the application looks. Returns where it is kept.
    ///
    /// # Errors
    /// [`MemberError`] if it is no license of this product by this vendor, or the disk says no.
    pub fn add(&self, license: &Signed<License>) -> Result<PathBuf, MemberError> {
        let list = self.list()?;
        let new = self.judged(license.clone(), list.as_ref());
        let is_one = new.content().is_some() && new.verdict.code != Code::ProductMismatch;
        if !is_one {
            let code = new.verdict.code;
            return Err(MemberError::Answer(format!("the license is {code}")));
        }
        let mut all = self.judge()?;
        all.retain(|known| known.license != *license && known.content().is_some());
        all.push(new);
        sort(&mut all);
        let best = all.first().expect("one was just added").clone();
        let later = all
            .iter()
            .skip(1)
            .filter(|of| of.expires() > best.expires());
        let later = later.max_by_key(|of| of.expires());
        let (place, following) = (self.place(), next(&self.place()));
        // First the one that may be needed alone.
        match later {
            Some(later) => write(&following, later.license.to_text().as_bytes())?,
            None => remove_if_there(&following)?,
        }
        write(&place, best.license.to_text().as_bytes())?;
        self.apply()?;
        Ok(if best.license == *license {
            place
        } else {
            following
        })
    }

    /// Puts the licenses where the application looks. Returns them, the best first.
    ///
    /// # Errors
    /// [`MemberError`] if the disk says no.
    pub fn apply(&self) -> Result<Vec<Judged>, MemberError> {
        let (from, to) = (self.place(), self.applied());
        for (from, to) in [(from.clone(), to.clone()), (next(&from), next(&to))] {
            match read_if_there(&from)? {
                Some(text) if read_if_there(&to)?.as_ref() == Some(&text) => {}
                Some(text) => write(&to, &text)?,
                None => remove_if_there(&to)?,
            }
        }
        self.judge()
    }
}

/// Puts the best first; of equals the one that holds longer.
fn sort(all: &mut [Judged]) {
    all.sort_by_key(|judged| (judged.verdict.code, std::cmp::Reverse(judged.expires())));
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, MemberError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(MemberError::io(path)),
    }
}

fn remove_if_there(path: &Path) -> Result<(), MemberError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(MemberError::io(path)(error)),
        _ => Ok(()),
    }
}
