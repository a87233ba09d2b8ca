//! The pure core: what a node that holds a lease does next.

use std::time::Duration;

use perennial_core::Uptime;

use super::LeaseTerms;

/// Parts of the time between renewals after which one that failed is tried again.
const TRIES: u32 = 6;

/// How far a node is from its last renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It does everything.
    Safe,
    /// It claims nothing.
    ClaimsStopped,
    /// It has no attempt under way, and reports nothing.
    WorkStopped,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::ClaimsStopped => "claims_stopped",
            Self::WorkStopped => "work_stopped",
        }
    }

    fn after(terms: &LeaseTerms, without: Duration) -> Self {
        if without >= terms.stop_work_after {
            Self::WorkStopped
        } else if without >= terms.stop_claims_after {
            Self::ClaimsStopped
        } else {
            Self::Safe
        }
    }
}

/// What a renewal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The lease goes on.
    Extended,
    /// Nobody knows.
    Failed,
    /// The lease was over.
    Lost,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Step {
    /// Send a renewal.
    Send,
    /// Enter a stage: further from the last renewal, or back.
    Enter(Stage),
    /// Nothing before that, unless an answer comes.
    Wait(Duration),
    /// Leave everything and join again.
    Rejoin,
}

/// A node's lease as the node knows it.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    terms: LeaseTerms,
    /// When the last renewal that succeeded was sent.
    confirmed: Uptime,
    next_send: Uptime,
    is_sending: bool,
    stage: Stage,
    is_lost: bool,
    pub(super) renewals: u64,
    /// That failed since the last one that did not.
    pub(super) missed: u32,
}

impl Holding {
    pub(super) fn new(terms: LeaseTerms, confirmed: Uptime) -> Self {
        Self {
            terms,
            confirmed,
            next_send: confirmed + terms.renew_every,
            is_sending: false,
            stage: Stage::Safe,
            is_lost: false,
            renewals: 0,
            missed: 0,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// To be asked again after each step.
    pub(super) fn step(&mut self, now: Uptime) -> Step {
        if self.is_lost {
            return Step::Rejoin;
        }
        let without = now.since(self.confirmed);
        if without >= self.terms.ttl {
            // Where requests arrive and answers do not, each renewal would keep for this node what it does not
            // work on.
            self.is_lost = true;
            return Step::Rejoin;
        }
        let stage = Stage::after(&self.terms, without);
        if stage != self.stage {
            self.stage = stage;
            return Step::Enter(stage);
        }
        if !self.is_sending && self.next_send <= now {
            self.is_sending = true;
            return Step::Send;
        }
        let next_stage = match stage {
            Stage::Safe => Some(self.terms.stop_claims_after.saturating_sub(without)),
            Stage::ClaimsStopped => Some(self.terms.stop_work_after.saturating_sub(without)),
            Stage::WorkStopped => Some(self.terms.ttl.saturating_sub(without)),
        };
        let next_send = (!self.is_sending).then(|| self.next_send.since(now));
        let waits = [next_stage, next_send].into_iter().flatten().min();
        Step::Wait(waits.unwrap_or(self.terms.renew_every))
    }

    /// Somebody was told by the store that this node does not live: it is asked at once.
    pub(super) fn doubt(&mut self, now: Uptime) {
        self.next_send = self.next_send.min(now);
    }

    /// What became of the renewal that was sent at `sent`.
    pub(super) fn heard(&mut self, sent: Uptime, answer: Answer, now: Uptime) {
        self.is_sending = false;
        match answer {
            Answer::Extended => {
                self.confirmed = self.confirmed.max(sent);
                self.next_send = sent + self.terms.renew_every;
                self.renewals += 1;
                self.missed = 0;
            }
            Answer::Failed => {
                self.missed = self.missed.saturating_add(1);
                self.next_send = now + self.terms.renew_every / TRIES;
            }
            Answer::Lost => self.is_lost = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: Duration = Duration::from_secs(10);

    /// What becomes of one renewal: its answer, and how long that takes.
    const ANSWERS: [(Answer, u32); 6] = [
        (Answer::Extended, 0),
        (Answer::Extended, 1),
        (Answer::Extended, 3),
        (Answer::Failed, 0),
        (Answer::Failed, 3),
        (Answer::Lost, 1),
    ];

    fn at(time: Duration) -> Uptime {
        Uptime::new(time)
    }

    /// Plays one history to its end, as the shell would, and checks each moment of it.
    fn play(history: &[(Answer, u32)]) {
        let terms = LeaseTerms::of(L);
        let mut holding = Holding::new(terms, at(Duration::ZERO));
        let (mut now, mut confirmed) = (at(Duration::ZERO), at(Duration::ZERO));
        let mut history = history.iter();
        let mut sending: Option<(Uptime, Uptime, Answer)> = None;
        let mut failed_at: Option<Uptime> = None;
        loop {
            match holding.step(now) {
                Step::Rejoin => {
                    assert!(now.since(confirmed) >= L, "nobody said so");
                    return;
                }
                Step::Enter(stage) => {
                    let without = now.since(confirmed);
                    assert_eq!(stage, Stage::after(&terms, without), "{without:?}");
                    assert_eq!(stage, holding.stage());
                }
                Step::Send => {
                    assert!(sending.is_none(), "one at a time");
                    let due = failed_at
                        .map_or(confirmed + terms.renew_every, |at| at + terms.renew_every / TRIES);
                    assert!(now.since(due) == Duration::ZERO || now == due, "in time");
                    let Some((answer, tenths)) = history.next() else { return };
                    sending = Some((now, now + L / 10 * *tenths, *answer));
                }
                Step::Wait(time) => {
                    // Never past a boundary: the stage is what the time says when it comes.
                    assert_eq!(holding.stage(), Stage::after(&terms, now.since(confirmed)));
                    let waited = now + time;
                    match sending {
                        Some((sent, heard, answer)) if heard <= waited => {
                            now = heard;
                            sending = None;
                            holding.heard(sent, answer, now);
                            failed_at = None;
                            match answer {
                                Answer::Extended => confirmed = sent,
                                Answer::Failed => failed_at = Some(now),
                                Answer::Lost => {
                                    assert_eq!(holding.step(now), Step::Rejoin, "at once");
                                    return;
                                }
                            }
                        }
                        Some(_) | None => {
                            assert!(!time.is_zero(), "it would wait for nothing");
                            assert!(
                                now.since(confirmed) + time <= terms.stop_claims_after
                                    || holding.stage() != Stage::Safe
                            );
                            now = waited;
                        }
                    }
                }
            }
        }
    }

    /// DUR-21, INV-ST-13: all histories of six renewals.
    #[test]
    fn stages_are_entered_in_time_whatever_becomes_of_the_renewals() {
        fn all(history: &mut Vec<(Answer, u32)>, left: usize) {
            play(history);
            for answer in ANSWERS.into_iter().filter(|_| left > 0) {
                history.push(answer);
                all(history, left - 1);
                history.pop();
            }
        }
        all(&mut Vec::new(), 6);
    }

    /// Proves INV-33.
    #[test]
    fn without_an_answer_claims_stop_at_six_tenths_and_work_at_eight() {
        for ttl in [L, L * 3] {
            let mut holding = Holding::new(LeaseTerms::of(ttl), at(Duration::ZERO));
            let mut now = Duration::ZERO;
            let mut entered = Vec::new();
            while now < ttl {
                match holding.step(at(now)) {
                    Step::Wait(time) => now += time,
                    Step::Enter(stage) => entered.push((stage, now)),
                    Step::Send => (),
                    Step::Rejoin => panic!("nobody said so"),
                }
            }
            let expected =
                [(Stage::ClaimsStopped, ttl * 6 / 10), (Stage::WorkStopped, ttl * 8 / 10)];
            assert_eq!(entered, expected);
        }
    }

    /// A stop of the whole process: time is measured from before the renewal was sent.
    #[test]
    fn a_renewal_that_was_answered_late_counts_from_when_it_was_sent() {
        let mut holding = Holding::new(LeaseTerms::of(L), at(Duration::ZERO));
        let sent = at(L / 3);
        assert_eq!(holding.step(sent), Step::Send);
        let heard = at(L / 3 + L * 7 / 10);
        holding.heard(sent, Answer::Extended, heard);
        assert_eq!(holding.step(heard), Step::Enter(Stage::ClaimsStopped));
        assert_eq!(holding.step(heard), Step::Send);
        holding.heard(heard, Answer::Extended, heard);
        assert_eq!(holding.step(heard), Step::Enter(Stage::Safe));
    }

    #[test]
    fn a_doubt_asks_at_once_and_once() {
        let mut holding = Holding::new(LeaseTerms::of(L), at(Duration::ZERO));
        let now = at(L / 10);
        assert!(matches!(holding.step(now), Step::Wait(_)));
        holding.doubt(now);
        assert_eq!(holding.step(now), Step::Send);
        holding.doubt(now);
        assert!(matches!(holding.step(now), Step::Wait(_)), "it asks already");
        holding.heard(now, Answer::Extended, now);
        assert_eq!(holding.step(now), Step::Wait(L / 3));
    }

    #[test]
    fn terms_come_in_their_order() {
        use super::super::InvalidLease;
        let usual = LeaseTerms::default();
        assert_eq!(usual.checked(), Ok(usual));
        let order = |first, then| Err(InvalidLease::Order { first, then });
        for (terms, refused) in [
            (
                LeaseTerms { renew_every: Duration::ZERO, ..usual },
                Err(InvalidLease::Zero("renew_every")),
            ),
            (
                LeaseTerms { sweep_every: Duration::ZERO, ..usual },
                Err(InvalidLease::Zero("sweep_every")),
            ),
            (LeaseTerms { renew_every: L, ..usual }, order("renew_every", "stop_claims_after")),
            (
                LeaseTerms { stop_claims_after: L, ..usual },
                order("stop_claims_after", "stop_work_after"),
            ),
            (LeaseTerms { stop_work_after: L, ..usual }, order("stop_work_after", "ttl")),
        ] {
            assert_eq!(terms.checked(), refused);
        }
    }
}
