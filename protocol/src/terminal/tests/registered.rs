//! Registrations: when a coordinator is shown one, and which.

use super::*;
use crate::product::ProductId;
use crate::registration::Enrolment;

/// A registration of the terminal at an app server.
fn registration(shop: u8, serial: u64, expires: Timestamp) -> Verified<Registration> {
    let product: ProductId = "photo".parse().unwrap();
    let (owner, at) = (node(9), Timestamp::from_millis(1));
    let enrolment = Enrolment {
        app_server: node(shop),
        product: product.clone(),
        owner,
        at,
    };
    let sign = |by: u8| SigningKey::from_bytes(&[by; 32]);
    let enrolment = Verified::sign(enrolment, &network(), &sign(9));
    let registration = Registration {
        product,
        holder: Holder::alone(owner),
        certificate: None,
        enrolment: enrolment.signed().clone(),
        issued: at,
        expires,
        serial,
    };
    Verified::sign(registration, &network(), &sign(shop))
}

impl Bench {
    fn register(&mut self, registration: &Verified<Registration>) {
        self.step(Input::Registered(Box::new(registration.clone())));
    }

    fn refuse(&mut self, pull: &PullOut, refusal: Option<Refusal>) {
        let question = pull.question;
        self.step(Input::Failed { question, refusal });
    }

    /// Lets time pass until the next pull.
    fn next_pull(&mut self) -> PullOut {
        if self.pulls.is_empty() {
            self.pass(120_000);
        }
        self.pull().expect("asks again")
    }

    fn hour(&self) -> Timestamp {
        self.now + Duration::from_secs(3_600)
    }
}

/// Returns at which app server the registration is that a pull shows.
fn shown(pull: &PullOut) -> Option<NodeId> {
    let shown = pull.registration.clone();
    shown.map(|shown| shown.verify(&network()).unwrap().signer())
}

#[test]
fn a_coordinator_is_shown_a_registration_once() {
    let mut bench = Bench::new(1);
    bench.register(&registration(50, 1, bench.hour()));
    let pull = bench.found(1);
    assert_eq!(shown(&pull), Some(node(50)));
    bench.refuse(&pull, None);
    let again = bench.next_pull();
    assert_eq!(shown(&again), Some(node(50)), "it may not have come");
    bench.answer(&again, None);
    let third = bench.next_pull();
    assert_eq!(shown(&third), None);
    bench.answer(&third, None);
    bench.register(&registration(50, 1, bench.hour()));
    assert_eq!(shown(&bench.next_pull()), None, "nothing new");
    let other = bench.found(2);
    assert_eq!(shown(&other), Some(node(50)));
}

#[test]
fn who_is_not_admitted_shows_one_after_the_other() {
    let mut bench = Bench::new(1);
    let shops = [50, 51].map(|shop| registration(shop, 1, bench.hour()));
    bench.register(&shops[0]);
    bench.register(&shops[1]);
    let mut order = [node(50), node(51)];
    order.sort_unstable();
    let mut pull = bench.found(1);
    for expected in [order[0], order[1], order[0]] {
        assert_eq!(shown(&pull), Some(expected));
        bench.refuse(&pull, Some(Refusal::NotRegistered));
        assert!(bench.pulls.is_empty(), "it waits");
        pull = bench.next_pull();
    }
    bench.answer(&pull, None);
    assert_eq!(shown(&bench.next_pull()), None);
}

#[test]
fn who_waits_to_be_admitted_shows_a_new_registration_at_once() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    assert_eq!(shown(&pull), None);
    bench.refuse(&pull, Some(Refusal::NotRegistered));
    assert!(bench.pulls.is_empty());
    bench.register(&registration(50, 1, bench.hour()));
    let pull = bench.pull().expect("asks at once");
    assert_eq!(shown(&pull), Some(node(50)));
    bench.refuse(&pull, Some(Refusal::WrongProfile));
    bench.register(&registration(51, 1, bench.hour()));
    assert!(bench.pulls.is_empty(), "it was refused for another reason");
    assert_eq!(shown(&bench.next_pull()), Some(node(51)));
}

#[test]
fn what_has_ended_or_is_of_another_is_not_shown() {
    let mut bench = Bench::new(1);
    bench.register(&registration(50, 1, bench.now));
    let mut other = registration(51, 1, bench.hour()).value().clone();
    other.holder.owner = node(8);
    let key = SigningKey::from_bytes(&[51; 32]);
    bench.register(&Verified::sign(other, &network(), &key));
    assert_eq!(shown(&bench.found(1)), None);
    bench.register(&registration(50, 2, bench.hour()));
    assert_eq!(shown(&bench.found(2)), Some(node(50)));
}

#[test]
fn of_too_many_registrations_the_longest_are_kept() {
    let mut bench = Bench::new(1);
    for shop in 0..=u8::try_from(REGISTRATIONS_MAX).unwrap() {
        let expires = bench.hour() + Duration::from_secs(shop.into());
        bench.register(&registration(100 + shop, 1, expires));
    }
    let mut seen = BTreeSet::new();
    let mut pull = bench.found(1);
    for _ in 0..REGISTRATIONS_MAX {
        seen.insert(shown(&pull).unwrap());
        bench.refuse(&pull, Some(Refusal::NotRegistered));
        pull = bench.next_pull();
    }
    assert_eq!(seen.len(), REGISTRATIONS_MAX);
    assert!(!seen.contains(&node(100)));
}
