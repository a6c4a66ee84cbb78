//! A terminal as an owner may find it, in all that the page can show.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tally_ledger::wallet::{Earned, EarnedDay, Earnings, PointsAt, Unpaid, UnpaidBy, UtcOffset};
use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::manners::{Because, Reason, Until};
use tally_protocol::message::work::UnpaidReason;
use tally_protocol::points::Points;
use tally_protocol::time::Timestamp;
use tokio::sync::watch;

use crate::page::desk::{Action, Desk, DeskError, GoalView, PageView, RunningUnits};

/// 2026-11-22T13:31:40Z.
const NOW: Timestamp = Timestamp::from_millis(1_795_354_300_000);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A desk whose view and answer stand fixed, and that remembers what was wanted.
pub(crate) struct SampleDesk {
    pub(crate) view: watch::Sender<PageView>,
    pub(crate) wanted: watch::Sender<Vec<Action>>,
    pub(crate) answer: Result<(), DeskError>,
}

impl SampleDesk {
    pub(crate) fn new(view: PageView) -> Self {
        Self {
            view: watch::Sender::new(view),
            wanted: watch::Sender::new(Vec::new()),
            answer: Ok(()),
        }
    }
}

impl Desk for SampleDesk {
    fn view(&self) -> BoxFuture<'_, Result<PageView, DeskError>> {
        std::future::ready(Ok(self.view.borrow().clone())).boxed()
    }

    fn act(&self, action: Action) -> BoxFuture<'_, Result<(), DeskError>> {
        self.wanted.send_modify(|wanted| wanted.push(action));
        std::future::ready(self.answer.clone()).boxed()
    }
}

/// Returns a view with something of everything; whoever writes texts is `hostile`.
pub(crate) fn view(hostile: &str) -> PageView {
    let node = |byte| NodeId::from_bytes([byte; 32]);
    let task = |byte| TaskId::from_bytes([byte; 32]);
    let preferences = [
        ("preset", "medium"),
        ("run", "always"),
        ("idle_minutes", "3"),
        ("in_use.cpu", "25"),
        ("idle.cpu", "100"),
        ("hours", "mon-fri 18:00-08:00, sat-sun"),
        ("on_battery", "false"),
    ];
    let preferences = preferences.map(|(key, value)| (key.to_owned(), value.to_owned()));
    PageView {
        now: NOW,
        offset: UtcOffset::nearest(60),
        node: node(1),
        owner: node(2),
        because: vec![Because {
            reason: Reason::Owing,
            since: NOW - HOUR,
            until: Until::ItChanges,
            detail: format!("a coordinator{hostile}"),
        }],
        running: vec![
            RunningUnits {
                program: format!("gaussian-blur{hostile}"),
                task: task(3),
                units: (120, 127),
                since: NOW - Duration::from_secs(95),
                percent: Some(62),
                suspended: false,
            },
            RunningUnits {
                program: "prime-count".to_owned(),
                task: task(4),
                units: (7, 7),
                since: NOW - DAY,
                percent: None,
                suspended: true,
            },
        ],
        earnings: earnings(),
        unpaid: unpaid(),
        goals: vec![GoalView {
            vendor: format!("Photo Works{hostile}"),
            product: "photo-desk".parse().expect("a product"),
            state: format!("earning{hostile}"),
            points: Points::from_micro(31_250_000),
            escrowed: Points::from_micro(4_250_000),
            needed: Some(Points::from_micro(50_000_000)),
            license: Some("valid".to_owned()),
            license_until: Some(NOW + DAY * 12),
        }],
        preferences: BTreeMap::from(preferences),
    }
}

/// Returns why nothing is computed because somebody uses the computer, which runs on battery too.
pub(crate) fn in_use(hostile: &str) -> Vec<Because> {
    vec![
        Because {
            reason: Reason::InUse,
            since: NOW - Duration::from_secs(600),
            until: Until::At(NOW + Duration::from_secs(150)),
            detail: format!("idle after 3 minutes without input{hostile}"),
        },
        Because {
            reason: Reason::OnBattery,
            since: NOW - HOUR,
            until: Until::ItChanges,
            detail: "83 % are left".to_owned(),
        },
    ]
}

fn earnings() -> Earnings {
    let micro = [0, 1_900, 2_340_000, 12_345_678, 9_000_000, 0, 6_789_000];
    let day = |(place, micro): (u32, u64)| EarnedDay {
        date: format!("2026-11-{}", 16 + place),
        since: NOW - DAY * (6 - place),
        earned: Earned {
            receipts: u64::from(micro > 0),
            units: micro / 1_900,
            points: Points::from_micro(micro),
        },
    };
    Earnings {
        days: (0..).zip(micro).map(day).collect(),
        total: Earned {
            receipts: 812,
            units: 204_118,
            points: Points::from_micro(1_204_118_250_000),
        },
    }
}

fn unpaid() -> Unpaid {
    let part = |days: u32, micro| PointsAt {
        at: NOW + DAY * days,
        points: Points::from_micro(micro),
    };
    Unpaid {
        coordinators: vec![UnpaidBy {
            coordinator: NodeId::from_bytes([8; 32]),
            waiting: 214,
            waiting_since: Some(NOW - HOUR),
            declared: BTreeMap::from([
                (UnpaidReason::Outvoted, 2),
                (UnpaidReason::NoQuorum, 1),
                (UnpaidReason::TaskEnded, 17),
                (UnpaidReason::Settled, 3),
            ]),
            disputed: 1,
        }],
        spendable: Points::from_micro(31_250_000),
        escrow: (1..=7).map(|day| part(day, 600_000)).collect(),
        escrow_later: Points::from_micro(50_000),
        undated: Points::from_micro(20_000),
        expiring: vec![part(20, 1_000_000)],
    }
}
