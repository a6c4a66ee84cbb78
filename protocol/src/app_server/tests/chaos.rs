//! Whatever happens: each redemption ends once, no points are spent twice, and both sides' books agree.

use proptest::prelude::*;

use super::*;
use crate::id::RedemptionId;

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// Somebody orders, and redeems so many cents at each coordinator.
    Order {
        wish: Kind,
        cents: [u64; 2],
    },
    /// A question is on its way.
    Ask(usize, Fate),
    /// It arrives twice, the second time later than what comes next.
    Duplicate(usize),
    /// All questions are answered.
    AskAll,
    /// A coordinator lets all go that is not decided, too early.
    DropReserved(usize),
    /// A late copy arrives.
    Late(usize),
    /// Time passes, with no answers.
    Pass(u64),
    /// The process ends, before so many facts of the last step were written.
    Crash(usize),
    Pay(usize),
    Cancel(usize),
    Refund(usize),
    UseVoucher(usize, u8),
    Settle(usize),
}

/// What is ordered.
#[derive(Debug, Clone, Copy)]
enum Kind {
    License,
    Voucher,
}

/// What becomes of a question.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    ReplyLost,
    RequestLost,
}

fn happening() -> impl Strategy<Value = Happening> {
    let cents = prop_oneof![Just(0), 1_u64..300, Just(600)];
    prop_oneof![
        3 => (prop_oneof![Just(Kind::License), Just(Kind::Voucher)], [cents.clone(), cents])
            .prop_map(|(wish, cents)| Happening::Order { wish, cents }),
        9 => (0_usize..4).prop_map(|which| Happening::Ask(which, Fate::Answered)),
        3 => (0_usize..4).prop_map(|which| Happening::Ask(which, Fate::ReplyLost)),
        1 => (0_usize..4).prop_map(|which| Happening::Ask(which, Fate::RequestLost)),
        3 => Just(Happening::AskAll),
        1 => (0_usize..2).prop_map(Happening::DropReserved),
        2 => (0_usize..4).prop_map(Happening::Duplicate),
        2 => (0_usize..4).prop_map(Happening::Late),
        3 => prop_oneof![0_u64..10, 0_u64..600, 0_u64..50_000].prop_map(Happening::Pass),
        2 => (0_usize..4).prop_map(Happening::Crash),
        2 => (0_usize..8).prop_map(Happening::Pay),
        1 => (0_usize..8).prop_map(Happening::Cancel),
        1 => (0_usize..8).prop_map(Happening::Refund),
        1 => (0_usize..8, 0_u8..3).prop_map(|(order, key)| Happening::UseVoucher(order, key)),
        1 => (0_usize..2).prop_map(Happening::Settle),
    ]
}

struct Chaos {
    desk: Desk,
    orders: Vec<OrderId>,
    late: Vec<(NodeId, Request)>,
    /// Facts before the last step.
    written: usize,
    /// Who has used a voucher.
    used: Vec<(OrderId, u8)>,
}

impl Chaos {
    fn new() -> Self {
        let desk = Desk::new();
        Self {
            written: desk.facts.len(),
            desk,
            orders: Vec::new(),
            late: Vec::new(),
            used: Vec::new(),
        }
    }

    fn happen(&mut self, happening: Happening) {
        if let Happening::Crash(lost) = happening {
            // What was answered to somebody was durable before.
            let last = self.desk.facts.len() - self.written;
            let was_told = self.desk.out.iter().any(|effect| match effect {
                Effect::Answer { answer, .. } => answer.is_ok(),
                _ => false,
            });
            self.desk.restart(if was_told { 0 } else { lost.min(last) });
            self.written = self.desk.facts.len();
            return;
        }
        self.written = self.desk.facts.len();
        self.act(happening);
    }

    fn act(&mut self, happening: Happening) {
        let desk = &mut self.desk;
        let picked = |of: usize, all: &[OrderId]| all.get(of % all.len().max(1)).copied();
        match happening {
            Happening::Order { wish, cents } => self.order(wish, cents),
            Happening::Ask(which, fate) => self.deliver(which, fate),
            Happening::Duplicate(which) => {
                if let Some((_, to, request)) = desk.asks.get(which) {
                    self.late.push((*to, request.clone()));
                }
                self.deliver(which, Fate::Answered);
            }
            Happening::AskAll => desk.deliver(),
            Happening::DropReserved(bank) => {
                desk.banks[bank].expire(Timestamp::from_millis(u64::MAX));
            }
            Happening::Late(which) => {
                if which < self.late.len() {
                    let (to, request) = self.late.remove(which);
                    let now = desk.now;
                    let bank = desk.banks.iter_mut().find(|bank| bank.id() == to).unwrap();
                    bank.answer(now, request);
                }
            }
            Happening::Pass(seconds) => {
                let end = desk.now + Duration::from_secs(seconds);
                while let Some(at) = desk.server.next_deadline().filter(|at| *at <= end) {
                    desk.now = desk.now.max(at);
                    desk.step(Input::DeadlineReached);
                }
                desk.now = end;
            }
            Happening::Crash(_) => {}
            Happening::Pay(which) => {
                if let Some(order) = picked(which, &self.orders) {
                    desk.pay(order, &format!("bank {order}")).ok();
                }
            }
            Happening::Cancel(which) => {
                if let Some(order) = picked(which, &self.orders) {
                    desk.order(Command::Cancel(order)).ok();
                }
            }
            Happening::Refund(which) => {
                if let Some(order) = picked(which, &self.orders) {
                    desk.order(Command::Refund(order)).ok();
                }
            }
            Happening::UseVoucher(which, key) => {
                if let Some(order) = picked(which, &self.orders) {
                    self.use_voucher(order, key);
                }
            }
            Happening::Settle(bank) => {
                desk.order(Command::Settle(node(BANKS[bank]))).unwrap();
            }
        }
    }

    fn order(&mut self, kind: Kind, cents: [u64; 2]) {
        let desk = &mut self.desk;
        let wish = match kind {
            Kind::License => license(),
            Kind::Voucher => voucher(1_000),
        };
        let Ok(status) = desk.open(wish, &format!("key {}", desk.asked)) else {
            return;
        };
        let order = status.order;
        self.orders.push(order);
        let some = BANKS.into_iter().zip(cents).filter(|(_, cents)| *cents > 0);
        let some = some.map(|(bank, cents)| points(desk, order, bank, cents));
        let some: Vec<_> = some.collect();
        desk.redeem(order, some).ok();
    }

    fn deliver(&mut self, which: usize, fate: Fate) {
        let desk = &mut self.desk;
        if which >= desk.asks.len() {
            return;
        }
        let (question, to, request) = desk.asks.remove(which);
        let now = desk.now;
        let bank = desk.banks.iter_mut().find(|bank| bank.id() == to).unwrap();
        let reply = match fate {
            Fate::RequestLost => None,
            Fate::ReplyLost => bank.answer(now, request).and(None),
            Fate::Answered => bank.answer(now, request),
        };
        desk.step(match reply.map(Box::new) {
            Some(reply) => Input::Answered { question, reply },
            None => Input::Failed(question),
        });
    }

    fn use_voucher(&mut self, order: OrderId, key: u8) {
        let known = self.desk.server.order(order);
        let goods = known.and_then(|order| order.goods());
        let Some(Goods::Voucher { voucher, .. }) = goods else {
            return;
        };
        let voucher = Box::new(voucher.clone().verify(&network()).unwrap());
        let answer = self.desk.answer(|question| Input::UseVoucher {
            question,
            voucher,
            fee: euro(1_000),
            key: format!("shop {key}").parse().unwrap(),
        });
        if answer.is_ok() {
            self.used.push((order, key));
        }
    }

    /// Everybody is there again, and time passes until nothing is open.
    fn heal(&mut self) {
        self.desk.restart(0);
        for _ in 0..12 {
            self.desk.pass(86_400);
        }
        for (to, request) in self.late.drain(..) {
            let now = self.desk.now;
            let mut banks = self.desk.banks.iter_mut();
            banks
                .find(|bank| bank.id() == to)
                .unwrap()
                .answer(now, request);
        }
        self.desk.pass(2 * 86_400);
        self.settle_up();
        let now = self.desk.now;
        self.desk.banks.iter_mut().for_each(|bank| bank.expire(now));
    }

    /// Everything is settled, what was disputed too.
    fn settle_up(&mut self) {
        for bank in BANKS.map(node) {
            self.desk.order(Command::Settle(bank)).unwrap();
            self.desk.deliver();
            let disputed: Vec<RedemptionId> = self.desk.server.disputed(bank).collect();
            for id in disputed {
                self.desk.order(Command::Resolve(bank, id)).unwrap();
            }
            self.desk.order(Command::Settle(bank)).unwrap();
            self.desk.pass(600);
        }
    }

    fn check(&self) {
        let desk = &self.desk;
        desk.audit();
        let (mut counted, mut indices, mut sales) = (BTreeMap::new(), Vec::new(), 0);
        for order in desk.server.orders() {
            let is_good = match order.phase() {
                Phase::Fulfilled => true,
                Phase::Void | Phase::Refunded => false,
                open => panic!("an order stays {open}: {order:?}"),
            };
            for leg in &order.legs {
                let earlier = counted.insert(leg.id, order.id);
                assert_eq!(earlier, None, "a redemption pays for one order");
                let bank = desk.banks.iter().find(|bank| bank.id() == leg.coordinator);
                assert_eq!(bank.unwrap().has_taken(leg.id), is_good, "{order:?}");
            }
            if is_good {
                let due = order.due();
                assert_eq!(order.payment.as_ref().map_or(0, |paid| paid.minor), due);
                sales += i128::from(order.discount() + due);
            }
            if let Some(Goods::License { order, .. }) = order.goods() {
                indices.push(order.status_index);
            }
        }
        let issued = indices.len();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(
            indices.len(),
            issued,
            "no place in the lists is given twice"
        );
        assert_eq!(desk.cents(Account::Sales), sales);
        assert_eq!(desk.owed_by(node(OWNER)), 0);
        for bank in &desk.banks {
            assert_eq!(desk.owed_by(bank.id()), bank.payable, "both books agree");
            assert_eq!(bank.due, bank.payable, "and all of it is settled");
            assert_eq!(desk.server.disputed(bank.id()).count(), 0);
            let all = bank.points[&node(OWNER)] + bank.spent(node(OWNER));
            assert_eq!(all, 1_000_000, "no point is lost or made");
            let ids: Vec<RedemptionId> = bank.known.keys().copied().collect();
            for id in ids.into_iter().filter(|id| bank.has_taken(*id)) {
                assert!(counted.contains_key(&id), "nothing is taken for nothing");
            }
        }
        let mut used = self.used.clone();
        used.sort_unstable();
        used.dedup();
        let vouchers = used.len();
        used.dedup_by_key(|(order, _)| *order);
        assert_eq!(used.len(), vouchers, "a voucher is used by one request");
        assert_eq!(desk.server.errands(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_redemption_ends_once_and_both_books_agree(
        all in prop::collection::vec(happening(), 0..70),
    ) {
        let mut chaos = Chaos::new();
        for happening in all {
            chaos.happen(happening);
        }
        chaos.heal();
        chaos.check();
    }
}
