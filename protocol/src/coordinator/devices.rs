//! The terminals that pull: who was seen when, who waits, who lets itself be reached. None of it is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::grants::Grants;
use crate::certificate::DeviceCertificate;
use crate::id::{GrantId, NodeId, ReceiptId, TaskId};
use crate::message::announce::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use crate::message::work::{RECEIPTS_BYTES_MAX, RECEIPTS_MAX, UNPAID_MAX, Unpaid};
use crate::receipt::Receipt;
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;

/// The most devices remembered.
pub(super) const DEVICES_MAX: usize = 50_000;
/// A device that pulled within this counts when units are shared out.
const ACTIVE_WITHIN: Duration = Duration::from_secs(30);
/// The most addresses of other terminals in an answer.
const PEERS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Devices {
    seed: [u8; 32],
    grants_made: u64,
    devices: BTreeMap<NodeId, Device>,
    /// All devices, by when they were seen.
    seen: BTreeSet<(Timestamp, NodeId)>,
    /// Those of them that were seen lately.
    active: BTreeSet<(Timestamp, NodeId)>,
    /// The devices that let themselves be reached, by the task of their last grant.
    reachable: BTreeMap<TaskId, BTreeSet<NodeId>>,
    /// Terminals that got nothing and are connected.
    waiting: BTreeSet<NodeId>,
    /// The last of them that was woken: the next one to be woken comes after it.
    woken: NodeId,
    pub(super) grants: Grants,
}

#[derive(Debug)]
struct Device {
    seen: Timestamp,
    share: Vec<String>,
    /// The task of its last grant.
    task: Option<TaskId>,
    /// Whose it is, as it showed with its last pull.
    certificate: Option<Verified<DeviceCertificate>>,
    /// Receipts that it has not said it keeps, the oldest first. Of too many the oldest are dropped here: they stand in
    /// the log.
    receipts: VecDeque<(ReceiptId, Signed<Receipt>)>,
    /// Results for which it will not be paid and has not been told.
    unpaid: Vec<Unpaid>,
}

impl Devices {
    pub(super) const fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            grants_made: 0,
            devices: BTreeMap::new(),
            seen: BTreeSet::new(),
            active: BTreeSet::new(),
            reachable: BTreeMap::new(),
            waiting: BTreeSet::new(),
            woken: NodeId::from_bytes([0; 32]),
            grants: Grants::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Notes that a device has pulled. Returns whether there is room for it.
    pub(super) fn note(
        &mut self,
        now: Timestamp,
        (from, certificate): (NodeId, Option<Verified<DeviceCertificate>>),
        share: &[String],
    ) -> bool {
        let known = self.devices.contains_key(&from);
        if !known && self.devices.len() >= DEVICES_MAX && !self.evict() {
            return false;
        }
        let device = self.devices.entry(from).or_insert(Device {
            seen: now,
            share: Vec::new(),
            task: None,
            certificate: None,
            receipts: VecDeque::new(),
            unpaid: Vec::new(),
        });
        device.certificate = certificate;
        let fits = |address: &&String| address.len() <= ADDRESS_BYTES_MAX;
        let share = share.iter().filter(fits).take(ADDRESSES_MAX).cloned();
        device.share = share.collect();
        let before = (std::mem::replace(&mut device.seen, now), from);
        for order in [&mut self.seen, &mut self.active] {
            order.remove(&before);
            order.insert((now, from));
        }
        self.mark_reachable(from);
        true
    }

    /// Forgets the device that was not seen for longest and holds nothing. Returns whether there was one.
    fn evict(&mut self) -> bool {
        let idle = |(_, device): &&(Timestamp, NodeId)| self.grants.leases(*device) == 0;
        let Some((seen, node)) = self.seen.iter().find(idle).copied() else {
            return false;
        };
        self.gone(node);
        self.seen.remove(&(seen, node));
        self.active.remove(&(seen, node));
        self.devices.remove(&node);
        true
    }

    /// Returns whose a device is, as it showed with its last pull.
    pub(super) fn certificate(&self, device: NodeId) -> Option<&Verified<DeviceCertificate>> {
        self.devices.get(&device)?.certificate.as_ref()
    }

    /// Keeps a receipt until the device says that it has it.
    pub(super) fn keep_receipt(&mut self, device: NodeId, id: ReceiptId, receipt: Signed<Receipt>) {
        if let Some(device) = self.devices.get_mut(&device) {
            if device.receipts.len() >= RECEIPTS_MAX {
                device.receipts.pop_front();
            }
            device.receipts.push_back((id, receipt));
        }
    }

    /// Drops the receipts that the device keeps by now. Returns the others, as many as an answer may have.
    pub(super) fn receipts(&mut self, device: NodeId, kept: &[ReceiptId]) -> Vec<Signed<Receipt>> {
        let Some(device) = self.devices.get_mut(&device) else {
            return Vec::new();
        };
        let kept: BTreeSet<&ReceiptId> = kept.iter().take(RECEIPTS_MAX).collect();
        device.receipts.retain(|(id, _)| !kept.contains(id));
        let mut bytes = 0;
        let fits = |(_, receipt): &&(ReceiptId, Signed<Receipt>)| {
            bytes += receipt.as_bytes().len();
            bytes <= RECEIPTS_BYTES_MAX
        };
        let fitting = device.receipts.iter().take_while(fits);
        fitting.map(|(_, receipt)| receipt.clone()).collect()
    }

    /// Notes that a device will not be paid for a result.
    pub(super) fn tell_unpaid(&mut self, device: NodeId, unpaid: Unpaid) {
        if let Some(device) = self.devices.get_mut(&device)
            && device.unpaid.len() < UNPAID_MAX
        {
            device.unpaid.push(unpaid);
        }
    }

    /// Returns the results for which a device will not be paid, once.
    pub(super) fn unpaid(&mut self, device: NodeId) -> Vec<Unpaid> {
        let device = self.devices.get_mut(&device);
        device
            .map(|device| std::mem::take(&mut device.unpaid))
            .unwrap_or_default()
    }

    /// Notes that the connection of a terminal is gone.
    pub(super) fn gone(&mut self, node: NodeId) {
        self.waiting.remove(&node);
        self.mark_unreachable(node);
    }

    /// Returns how many devices pulled lately.
    pub(super) fn count_active(&mut self, now: Timestamp) -> usize {
        while let Some((seen, _)) = self.active.first()
            && now.since(*seen) > ACTIVE_WITHIN
        {
            self.active.pop_first();
        }
        self.active.len()
    }

    /// Returns whether `needed` devices pulled lately, and how many did, up to that number.
    pub(super) fn active_up_to(&self, now: Timestamp, needed: usize) -> usize {
        let newest = self.active.iter().rev().take(needed);
        newest
            .filter(|(seen, _)| now.since(*seen) <= ACTIVE_WITHIN)
            .count()
    }

    /// Notes the task of the last grant of a device.
    pub(super) fn set_task(&mut self, node: NodeId, task: TaskId) {
        self.mark_unreachable(node);
        if let Some(device) = self.devices.get_mut(&node) {
            device.task = Some(task);
        }
        self.mark_reachable(node);
    }

    fn mark_reachable(&mut self, node: NodeId) {
        let device = self.devices.get(&node);
        let Some((task, device)) = device.and_then(|device| Some((device.task?, device))) else {
            return;
        };
        if device.share.is_empty() {
            self.mark_unreachable(node);
        } else {
            self.reachable.entry(task).or_default().insert(node);
        }
    }

    fn mark_unreachable(&mut self, node: NodeId) {
        let Some(task) = self.devices.get(&node).and_then(|device| device.task) else {
            return;
        };
        if let Some(nodes) = self.reachable.get_mut(&task) {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.reachable.remove(&task);
            }
        }
    }

    /// Returns addresses of other terminals on the task that let themselves be reached: of the next ones in the order
    /// of their ids, so that together they make a ring and not a star.
    pub(super) fn peers(&self, task: TaskId, but: NodeId) -> Vec<String> {
        let Some(nodes) = self.reachable.get(&task) else {
            return Vec::new();
        };
        let ring = nodes
            .range((Excluded(but), Unbounded))
            .chain(nodes.range(..but));
        ring.take(PEERS_MAX)
            .filter_map(|node| self.devices.get(node)?.share.first().cloned())
            .collect()
    }

    /// Notes that nothing of a task is at work any more. Returns the grants that were.
    pub(super) fn end_task(&mut self, now: Timestamp, task: &TaskId) -> Vec<GrantId> {
        self.grants.end_task(now, task)
    }

    /// Notes that a terminal waits for work, or does not.
    pub(super) fn wait(&mut self, node: NodeId, waits: Waits) {
        match waits {
            Waits::ForUnits => self.waiting.insert(node),
            Waits::ForNothing => self.waiting.remove(&node),
        };
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes up to `count` terminals that wait, in turn.
    pub(super) fn wake(&mut self, count: usize) -> Vec<NodeId> {
        let ring = self
            .waiting
            .range((Excluded(self.woken), Unbounded))
            .chain(self.waiting.range(..=self.woken));
        let woken: Vec<NodeId> = ring.copied().take(count).collect();
        for node in &woken {
            self.waiting.remove(node);
        }
        self.woken = woken.last().copied().unwrap_or(self.woken);
        woken
    }

    /// Draws whether a unit is among `per_mille` of 1,000, as nobody else can tell.
    pub(super) fn draws(&self, task: &TaskId, unit: u32, per_mille: u16) -> bool {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(task.as_bytes()).update(&unit.to_be_bytes());
        let drawn = *hasher
            .finalize()
            .as_bytes()
            .first_chunk()
            .expect("a hash has 32 bytes");
        u64::from_be_bytes(drawn) % 1_000 < u64::from(per_mille)
    }

    pub(super) const fn grants_made(&self) -> u64 {
        self.grants_made
    }

    pub(super) fn next_grant_id(&mut self) -> GrantId {
        self.grants_made += 1;
        let hash = blake3::keyed_hash(&self.seed, &self.grants_made.to_be_bytes());
        GrantId::from_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}

/// What a terminal waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waits {
    ForUnits,
    ForNothing,
}
