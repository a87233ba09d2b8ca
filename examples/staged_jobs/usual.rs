//! The usual study in each of the three ways in which it can be asked for, with its progress, and with the tree while its first
//! analyses are under way.

use perennial::{Runtime, Store, inspect::to_text};

use super::{
    platform::{Platform, Study, report::StudyReport},
    program::Told,
};

pub(crate) async fn three_ways(platform: &Platform, store: Store) -> Told {
    let runtime = platform.on(store).start().await?;
    let study = Study::usual();
    let report = carry_out(&runtime, platform, &study).await?;
    // The same with a barrier between the stages, and of the apps that are there now: the same analyses come of it.
    let study = Study { streaming: false, ..study };
    assert_eq!(carry_out(&runtime, platform, &study).await?.analyses, report.analyses);
    let study = Study { existing: report.apps, ..study };
    let again = carry_out(&runtime, platform, &study).await?;
    assert!(again.analyses.iter().all(|row| report.analyses.contains(row)));
    println!("{}", to_text(&runtime.tree(), &Default::default()));
    runtime.shutdown().await;
    Ok(())
}

async fn carry_out(
    runtime: &Runtime,
    platform: &Platform,
    study: &Study,
) -> Result<StudyReport, Box<dyn std::error::Error + Send + Sync>> {
    let run = runtime.runs().start(platform.staged.start(study)?).await?;
    let mut events = run.events(1);
    loop {
        let event = events.next().await?;
        let (kind, stage) = (event.kind.as_str(), event.data["stage"].as_str().unwrap_or_default());
        match kind {
            "stage_opened" | "stage_sealed" | "stage_closed" => {
                let progress = run.view().await?.run.progress.unwrap_or_default();
                println!("{progress:>3} % {kind} {stage}");
            }
            "run_closed" => break,
            _ => (),
        }
        if (kind, stage, study.streaming) == ("stage_closed", "generation", true) {
            println!("\n{}", to_text(&runtime.tree(), &Default::default()));
        }
    }
    let outcome = run.outcome().await?;
    let report = platform.staged.output(&outcome.view)?;
    println!("\nThe run {}:\n{report}", outcome.state);
    Ok(report)
}
