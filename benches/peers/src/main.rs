//! Our supervision next to bare ractor and to kameo, measured in the same rounds. See README.md.

mod bare;
mod kameo;
mod measure;
mod ours;
mod streams;

use std::sync::Arc;

use perennial_supervision::StreamOptions;

use measure::{Counting, Goal, Line, Pick, Wanted, on_a_worker};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let wanted = Wanted::from_args();
    on_a_worker(async move {
        sequences(&wanted).await;
        crowds(&wanted).await;
        streams(&wanted).await;
    });
}

async fn sequences(wanted: &Wanted) {
    if wanted.wants("call") {
        let count = wanted.size(200_000);
        Line::new("call", "ns", Goal::AtMost(1.15))
            .subject("perennial", move || ours::call(count))
            .subject("ractor", move || bare::call(count))
            .subject("kameo", move || kameo::call(count))
            .run()
            .await;
    }
    let count = wanted.size(10_000);
    if wanted.wants("restart_static") {
        Line::new("restart_static", "ns", Goal::AtMost(1.3))
            .subject("perennial", move || ours::restart_static(count))
            .subject("ractor", move || bare::restart(count))
            .subject("kameo", move || kameo::restart(count))
            .run()
            .await;
    }
    if wanted.wants("restart_dynamic") {
        Line::new("restart_dynamic", "ns", Goal::AtMost(1.3))
            .subject("perennial", move || ours::restart_dynamic(count))
            .subject("ractor", move || bare::restart(count))
            .run()
            .await;
    }
    let count = wanted.size(20_000);
    if wanted.wants("start_terminate") {
        Line::new("start_terminate", "/s", Goal::AtLeast(0.9))
            .subject("perennial", move || ours::start_terminate(count))
            .subject("ractor", move || bare::start_terminate(count))
            .subject("kameo", move || kameo::start_terminate(count))
            .run()
            .await;
    }
}

async fn crowds(wanted: &Wanted) {
    let (few, many) = (wanted.size(20_000), wanted.size(100_000));
    if wanted.wants("shutdown_20k") {
        Line::new("shutdown_20k", "ns", Goal::AtMost(1.2))
            .subject("perennial", move || ours::shutdown(few))
            .subject("ractor", move || bare::shutdown(few))
            .subject("kameo", move || kameo::shutdown(few))
            .run()
            .await;
    }
    if wanted.wants("shutdown_100k") {
        Line::new("shutdown_100k", "ns", Goal::AtMost(1.2))
            .subject("perennial", move || ours::shutdown(many))
            .subject("ractor", move || bare::shutdown(many))
            .run()
            .await;
    }
    if wanted.wants("shutdown_growth") {
        Line::new("shutdown_growth", "ns", Goal::AtMost(1.3))
            .subject("perennial 100k", move || ours::shutdown(many))
            .subject("20k", move || ours::shutdown(few))
            .run()
            .await;
    }
    if wanted.wants("memory") {
        Line::new("memory", "B", Goal::AtMost(1.1))
            .subject("perennial", move || ours::memory(many))
            .subject("ractor", move || bare::memory(many))
            .subject("kameo", move || kameo::memory(many))
            .run()
            .await;
    }
    const SNAPSHOTS: [&str; 4] =
        ["snapshot_100k", "snapshot_100k_max", "dump_100k", "dump_100k_max"];
    if SNAPSHOTS.iter().any(|line| wanted.wants(line)) {
        snapshots(wanted, many).await;
    }
}

/// A trivial function over many elements, eight at a time.
async fn streams(wanted: &Wanted) {
    let count = wanted.size(100_000);
    let lines = [
        ("stream_spawned", Goal::AtMost(1.1), StreamOptions::new()),
        ("stream_spawned_unordered", Goal::AtMost(1.1), StreamOptions::new().ordered(false)),
        ("stream_pooled", Goal::AtMost(0.5), StreamOptions::new().pooled()),
    ];
    for (name, goal, options) in lines.into_iter().filter(|(name, ..)| wanted.wants(name)) {
        let options = options.max_concurrency(streams::WIDTH);
        Line::new(name, "ns", goal)
            .subject("perennial", move || streams::ours(count, options.clone()))
            .subject("tokio spawned, buffer_unordered", move || streams::bare(count))
            .run()
            .await;
    }
}

async fn snapshots(wanted: &Wanted, many: usize) {
    let ours = Arc::new(ours::Crowd::start(many).await);
    let bare = Arc::new(bare::Crowd::start(many).await);
    let lines = [
        ("snapshot_100k", Pick::Median, Goal::AtMost(0.6)),
        ("snapshot_100k_max", Pick::Max, Goal::None),
    ];
    for (name, pick, goal) in lines.into_iter().filter(|(name, ..)| wanted.wants(name)) {
        let (ours, bare) = (ours.clone(), bare.clone());
        Line::new(name, "us", goal)
            .subject("perennial", move || ours.clone().list(pick))
            .subject("ractor", move || bare.clone().list(pick))
            .run()
            .await;
    }
    let lines = [("dump_100k", Pick::Median), ("dump_100k_max", Pick::Max)];
    for (name, pick) in lines.into_iter().filter(|(name, _)| wanted.wants(name)) {
        let (ours, bare) = (ours.clone(), bare.clone());
        Line::new(name, "us", Goal::None)
            .subject("perennial", move || ours.clone().dump(pick))
            .subject("ractor", move || bare.clone().list(pick))
            .run()
            .await;
    }
}
