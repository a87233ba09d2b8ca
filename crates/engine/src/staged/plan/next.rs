//! What a workflow asks for in the driven stages of a plan.

use std::collections::{BTreeMap, BTreeSet};

use super::{JobSpec, PlanProblem, problems::check_jobs};

/// What comes next in the driven stages of a run: see [`StagedWorkflow::next`](super::super::StagedWorkflow::next).
///
/// ```
/// use perennial::engine::staged::{JobSpec, NextJobs};
///
/// let first = NextJobs::none().job("drafts", JobSpec::new("1", &"a poem"));
/// let last = NextJobs::none().seal("drafts");
/// assert!(first != last && last != NextJobs::seal_all());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NextJobs {
    pub(crate) jobs: Vec<(String, JobSpec)>,
    pub(crate) seal: BTreeSet<String>,
    pub(crate) seal_all: bool,
}

impl NextJobs {
    /// Nothing for now: what is under way has to end first.
    pub fn none() -> Self {
        Self::default()
    }

    /// Nothing any more, in whatever stage.
    pub fn seal_all() -> Self {
        Self { seal_all: true, ..Self::default() }
    }

    /// And that job of that stage. One that is there is not made twice.
    #[must_use]
    pub fn job(self, stage: impl Into<String>, job: JobSpec) -> Self {
        self.jobs(stage, [job])
    }

    /// And those jobs of that stage.
    #[must_use]
    pub fn jobs(
        mut self,
        stage: impl Into<String>,
        jobs: impl IntoIterator<Item = JobSpec>,
    ) -> Self {
        let stage = stage.into();
        self.jobs.extend(jobs.into_iter().map(|job| (stage.clone(), job)));
        self
    }

    /// And nothing more of that stage, ever: it closes once the jobs that it has, with those asked for here, have ended. A
    /// stage that is sealed stays so.
    #[must_use]
    pub fn seal(mut self, stage: impl Into<String>) -> Self {
        self.seal.insert(stage.into());
        self
    }

    /// Whether it seals that stage.
    pub(crate) fn seals(&self, stage: &str) -> bool {
        self.seal_all || self.seal.contains(stage)
    }

    /// What of it cannot be, all of it at once; apart from services that nobody has. `stages`: the driven ones, by name; `jobs_max`: most
    /// jobs of the run.
    pub(crate) fn problems(
        &self,
        stages: &BTreeMap<&str, Takes<'_>>,
        jobs_before: usize,
        jobs_max: usize,
    ) -> Vec<PlanProblem> {
        let mut problems = Vec::new();
        let mut by_stage: BTreeMap<&str, Vec<JobSpec>> = BTreeMap::new();
        for (stage, job) in &self.jobs {
            by_stage.entry(stage).or_default().push(job.clone());
        }
        let named = by_stage.keys().copied().chain(self.seal.iter().map(String::as_str));
        let unknown: BTreeSet<&str> = named.filter(|stage| !stages.contains_key(stage)).collect();
        problems.extend(unknown.iter().map(|stage| PlanProblem::NotDriven((*stage).to_owned())));
        let mut have = jobs_before;
        for (stage, jobs) in &by_stage {
            let Some(Takes { has, is_sealed }) = stages.get(stage) else { continue };
            check_jobs(stage, jobs, has, &mut problems);
            let new = jobs.iter().filter(|job| !has(&job.key));
            have += new.clone().count();
            if *is_sealed {
                problems.extend(new.map(|job| PlanProblem::Sealed {
                    stage: (*stage).to_owned(),
                    key: job.key.clone(),
                }));
            }
        }
        if have > jobs_max && have > jobs_before {
            problems.push(PlanProblem::RunTooLarge { have, max: jobs_max });
        }
        problems
    }
}

/// A driven stage, as far as it matters for what may be asked for.
pub(crate) struct Takes<'a> {
    /// Whether it has a job of that key.
    pub(crate) has: Box<dyn Fn(&str) -> bool + 'a>,
    pub(crate) is_sealed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN_JOBS_MAX: usize = 1_000_000;

    fn job(key: &str) -> JobSpec {
        JobSpec::new(key, &1)
    }

    fn problems(next: NextJobs, jobs_before: usize) -> Vec<String> {
        let takes = |is_sealed| Takes { has: Box::new(|key| key == "old"), is_sealed };
        let stages = BTreeMap::from([("open", takes(false)), ("over", takes(true))]);
        next.problems(&stages, jobs_before, RUN_JOBS_MAX).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_there_may_be_asked_for_again_and_come_before() {
        let next = NextJobs::none().job("open", job("new").after(["old"]));
        let next = next.job("over", job("old")).seal("open").seal("over");
        assert_eq!(problems(next.clone(), RUN_JOBS_MAX - 1), [""; 0]);
        assert_eq!(problems(next.job("open", job("old")), RUN_JOBS_MAX - 1), [""; 0]);
        assert_eq!(problems(NextJobs::seal_all(), 2 * RUN_JOBS_MAX), [""; 0]);
        assert_eq!(problems(NextJobs::none().job("open", job("old")), 2 * RUN_JOBS_MAX), [""; 0]);
    }

    /// Everything that is wrong is told at once.
    #[test]
    fn what_cannot_be_is_told_with_its_stage_and_key() {
        let broken = JobSpec::new("broken", &std::collections::HashMap::from([((1, 2), 3)]));
        let next = NextJobs::none()
            .job("nowhere", job("a"))
            .seal("elsewhere")
            .job("over", job("late"))
            .jobs("open", [job("twice"), job("twice"), job(""), broken])
            .jobs(
                "open",
                [job("x").after(["y"]), job("y").after(["x"]), job("z").after(["later"])],
            );
        let found = problems(next, RUN_JOBS_MAX);
        let expected = [
            "the plan has no driven stage `elsewhere`",
            "the plan has no driven stage `nowhere`",
            "jobs of stage `open` wait for each other: x after y after x",
            "stage `open` has two jobs `twice`",
            "`` cannot name a stage or a job",
            "the input of job `broken` of stage `open` cannot be kept",
            "job `z` of stage `open` comes after `later`, which is none of its jobs",
            "stage `over` is sealed, and takes no job `late`",
            "the run would have 1000008 jobs; at most 1000000 are allowed",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}: not {expected}");
        }
    }
}
