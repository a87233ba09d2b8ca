//! How far a run in stages has come (4.9).

/// How far the own jobs of a stage have come.
///
/// ```
/// use perennial_core::run::{StageProgress, progress};
///
/// // Two of four apps are made; nobody has begun to analyse those that there are.
/// let made = StageProgress { is_final: true, jobs: 4, settled: 2, ..StageProgress::default() };
/// let analysed = StageProgress { upstream: Some(0), jobs: 2, ..StageProgress::default() };
/// assert_eq!(progress(&[made, analysed]), 25);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageProgress {
    /// Its share, next to those of the others.
    pub weight: u32,
    /// It was not to be done: the others share what would have been its part.
    pub is_neutral: bool,
    /// No job is added to it any more.
    pub is_final: bool,
    /// The place of the stage that feeds it, before its own.
    pub upstream: Option<usize>,
    /// Its own jobs by now.
    pub jobs: u64,
    /// Of those, what has ended, but for groups that have not.
    pub settled: u64,
    /// What of its groups has ended that have not ended themselves, in millionths of a job.
    pub of_groups: u64,
}

impl Default for StageProgress {
    /// Without any job yet.
    fn default() -> Self {
        Self {
            weight: 1,
            is_neutral: false,
            is_final: false,
            upstream: None,
            jobs: 0,
            settled: 0,
            of_groups: 0,
        }
    }
}

impl StageProgress {
    /// The share of a group that has not ended: of its children, those that have.
    ///
    /// ```
    /// use perennial_core::run::StageProgress;
    ///
    /// assert_eq!(StageProgress::share(1, 4), 250_000);
    /// assert_eq!(StageProgress::share(0, 0), 0); // not expanded yet
    /// ```
    pub fn share(settled: u64, children: u64) -> u64 {
        (settled.min(children) * 1_000_000).checked_div(children).unwrap_or(0)
    }
}

/// How far a run with these stages has come, in per cent and rounded down: of each the share of its jobs that have
/// ended, however they did. A stage that may still get jobs is expected to get one from each that its upstream is
/// expected to have.
///
/// It may fall when a stage gets more jobs than that; what is shown of a run is the most that it was in a round,
/// and 100 only once the run has ended ([`shown`]).
pub fn progress(stages: &[StageProgress]) -> u32 {
    let mut expected: Vec<u64> = Vec::with_capacity(stages.len());
    for stage in stages {
        let from_upstream = stage.upstream.and_then(|place| expected.get(place)).copied();
        let may_come = from_upstream.filter(|_| !stage.is_final && !stage.is_neutral);
        expected.push(stage.jobs.max(may_come.unwrap_or(0)));
    }
    let counts = |stage: &&StageProgress| !stage.is_neutral;
    // Where nobody has a share, all have the same.
    let is_weighed = stages.iter().filter(counts).any(|stage| stage.weight > 0);
    let (mut done, mut whole) = (0.0, 0.0);
    for (stage, expected) in stages.iter().zip(expected).filter(|(stage, _)| !stage.is_neutral) {
        let weight = if is_weighed { f64::from(stage.weight) } else { 1.0 };
        whole += weight;
        done += weight * share_of(stage, expected);
    }
    if whole == 0.0 {
        return 0;
    }
    // So that thirds of thirds add up.
    let percent = (100.0 * done / whole + 1e-6).floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 0 and 100"
    )]
    let percent = percent.clamp(0.0, 100.0) as u32;
    percent
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs are far below 2^52")]
fn share_of(stage: &StageProgress, expected: u64) -> f64 {
    if expected == 0 {
        // Final and empty, nothing is left to do of it.
        return if stage.is_final { 1.0 } else { 0.0 };
    }
    let settled = stage.settled as f64 + stage.of_groups as f64 / 1e6;
    (settled / expected as f64).min(1.0)
}

/// What is shown of a run: the most that it was in this round, and 100 exactly when the run has ended (INV-36).
///
/// ```
/// use perennial_core::run::shown;
///
/// assert_eq!((shown(50, 40, false), shown(50, 100, false), shown(50, 60, true)), (50, 99, 100));
/// ```
pub fn shown(mark: u32, now: u32, has_ended: bool) -> u32 {
    if has_ended { 100 } else { mark.max(now).min(99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(jobs: u64, settled: u64, is_final: bool) -> StageProgress {
        StageProgress { jobs, settled, is_final, ..StageProgress::default() }
    }

    /// Every pair of stages with up to three jobs each, however many have ended, final or not, weighed or skipped: by
    /// fractions, and the same whichever way the shares are written.
    #[test]
    fn it_is_the_weighed_share_of_what_has_ended() {
        for number in 0..4_u64.pow(4) * 2 * 2 * 9 * 4 {
            let mut rest = number;
            let mut digit = |base: u64| {
                let digit = rest % base;
                rest /= base;
                digit
            };
            let (jobs, more) = ([digit(4), digit(4)], [digit(4), digit(4)]);
            let is_final = [digit(2) == 1, digit(2) == 1];
            let weights = [digit(3), digit(3)];
            let neutral = digit(4);
            let is_neutral = [neutral & 1 == 1, neutral & 2 == 2];
            let settled = [more[0].min(jobs[0]), more[1].min(jobs[1])];
            let made = |place: usize| StageProgress {
                weight: u32::try_from(weights[place]).unwrap(),
                is_neutral: is_neutral[place],
                upstream: (place == 1).then_some(0),
                ..stage(jobs[place], settled[place], is_final[place])
            };
            // By fractions of whole numbers.
            let first = jobs[0];
            let second = if is_final[1] || is_neutral[1] { jobs[1] } else { jobs[1].max(first) };
            let (mut numerator, mut denominator, mut whole) = (0_u64, 1_u64, 0_u64);
            let all_zero = (0..2).all(|place| is_neutral[place] || weights[place] == 0);
            for (place, expected) in [first, second].into_iter().enumerate() {
                if is_neutral[place] {
                    continue;
                }
                let weight = if all_zero { 1 } else { weights[place] };
                let (part, of) = match expected {
                    0 if is_final[place] => (1, 1),
                    0 => (0, 1),
                    expected => (settled[place], expected),
                };
                numerator = numerator * of + weight * part * denominator;
                denominator *= of;
                whole += weight;
            }
            let exact = (100 * numerator).checked_div(denominator * whole).unwrap_or(0);
            let found = progress(&[made(0), made(1)]);
            assert_eq!(u64::from(found), exact, "{:?} {:?}", made(0), made(1));
        }
    }

    /// Proves B8.
    #[test]
    fn two_of_four_of_the_first_of_two_are_a_quarter() {
        let second = |jobs| StageProgress { upstream: Some(0), ..stage(jobs, 0, false) };
        assert_eq!(progress(&[stage(4, 0, true), second(0)]), 0);
        assert_eq!(progress(&[stage(4, 2, true), second(2)]), 25);
    }

    /// Proves D37, D39.
    #[test]
    fn a_stage_that_is_not_to_be_done_has_no_share() {
        let skipped = StageProgress { is_neutral: true, ..stage(0, 0, true) };
        let second = |settled| stage(4, settled, true);
        assert_eq!(progress(&[skipped, second(0)]), 0);
        assert_eq!(progress(&[skipped, second(3)]), 75);
        assert_eq!(progress(&[skipped, second(4)]), 100);
        assert_eq!(progress(&[skipped]), 0, "nothing is to be done");
    }

    /// Groups count by what has ended of them: of one job with four children each is a quarter.
    #[test]
    fn a_group_counts_as_the_share_of_its_children() {
        for settled in 0..=4 {
            let of_groups = StageProgress::share(settled, 4);
            let one = StageProgress { of_groups, ..stage(1, 0, true) };
            assert_eq!(u64::from(progress(&[one])), settled * 25);
            let two = StageProgress { of_groups, ..stage(2, 1, true) };
            assert_eq!(u64::from(progress(&[two])), 50 + settled * 25 / 2);
        }
    }

    /// Proves B16, INV-36.
    #[test]
    fn what_is_shown_never_falls_and_is_100_exactly_at_the_end() {
        for mark in 0..=100 {
            for now in 0..=100 {
                let open = shown(mark, now, false);
                assert!(open <= 99 && open >= mark.min(99) && open >= now.min(99));
                assert_eq!(shown(mark, now, true), 100);
            }
        }
        // However often one is reported.
        assert_eq!(progress(&[stage(2, 9, true)]), 100);
    }
}
