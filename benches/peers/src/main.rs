//! Our supervision next to bare ractor and to kameo, measured in the same rounds. See README.md.

mod bare;
mod kameo;
mod leak;
mod light;
mod lookup;
mod measure;
mod ours;
mod streams;

use std::sync::Arc;

use perennial_supervision::StreamOptions;

use measure::{Counting, Goal, Line, Pick, Wanted, on_a_worker, quiet};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let wanted = Wanted::from_args();
    quiet::<bare::AskedToPanic>();
    on_a_worker(async move {
        leaks(&wanted).await;
        sequences(&wanted).await;
        crowds(&wanted).await;
        streams(&wanted).await;
        light_sequences(&wanted).await;
        light_messages(&wanted).await;
        light_crowds(&wanted).await;
    });
}

/// First of all: memory that other lines have freed would hide what these leave behind.
async fn leaks(wanted: &Wanted) {
    let count = wanted.size(1_000_000);
    for (name, wave) in [("leak_1m", 1), ("leak_1m_waves", 1_000)] {
        if wanted.wants(name) {
            leak::line(name, count, wave).await;
        }
    }
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
            .subject("ractor", move || bare::restart(count, bare::Msg::Crash))
            .subject("kameo", move || kameo::restart(count))
            .run()
            .await;
    }
    if wanted.wants("restart_dynamic") {
        Line::new("restart_dynamic", "ns", Goal::AtMost(1.3))
            .subject("perennial", move || ours::restart_dynamic(count))
            .subject("ractor", move || bare::restart(count, bare::Msg::Crash))
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
    if wanted.wants("bulk_start") {
        Line::new("bulk_start", "ns", Goal::None)
            .subject("perennial light", move || light::bulk_start(many))
            .subject("ractor", move || bare::bulk_start(many))
            .subject("perennial actor", move || ours::bulk_start(many))
            .run()
            .await;
    }
    const SNAPSHOTS: [&str; 4] =
        ["snapshot_100k", "snapshot_100k_max", "dump_100k", "dump_100k_max"];
    if SNAPSHOTS.iter().any(|line| wanted.wants(line)) {
        snapshots(wanted, many).await;
    }
}

/// Light children: one at a time.
async fn light_sequences(wanted: &Wanted) {
    let count = wanted.size(10_000);
    if wanted.wants("light_restart") {
        Line::new("light_restart", "ns", Goal::AtMost(0.4))
            .subject("perennial", move || light::rise(count, false))
            .subject("ractor", move || bare::rise(count, bare::Msg::Crash))
            .run()
            .await;
    }
    if wanted.wants("light_restart_panic") {
        Line::new("light_restart_panic", "ns", Goal::None)
            .subject("perennial", move || light::rise(count, true))
            .subject("ractor", move || bare::rise(count, bare::Msg::Panic))
            .run()
            .await;
    }
    if wanted.wants("light_restart_called") {
        Line::new("light_restart_called", "ns", Goal::None)
            .subject("perennial", move || light::restart(count, light::Msg::Crash))
            .subject("ractor", move || bare::restart(count, bare::Msg::Crash))
            .run()
            .await;
    }
    let count = wanted.size(20_000);
    if wanted.wants("light_start_terminate") {
        Line::new("light_start_terminate", "/s", Goal::None)
            .subject("perennial", move || light::start_terminate(count))
            .subject("ractor", move || bare::start_terminate(count))
            .run()
            .await;
    }
}

/// What they are sent.
async fn light_messages(wanted: &Wanted) {
    let count = wanted.size(500_000);
    for (name, senders) in [("light_cast", 1), ("light_cast_4", 4)] {
        if wanted.wants(name) {
            Line::new(name, "ns", Goal::AtMost(0.5))
                .subject("perennial", move || light::cast(count, senders))
                .subject("ractor, unbounded", move || bare::cast(count, senders))
                .run()
                .await;
        }
    }
    let count = wanted.size(200_000);
    let calls = [
        ("light_call", 1, None),
        ("light_call_64", 64, None),
        ("light_call_within", 1, Some(bare::WITHIN)),
        ("light_call_within_64", 64, Some(bare::WITHIN)),
    ];
    for (name, callers, within) in calls {
        if wanted.wants(name) {
            Line::new(name, "ns", Goal::AtMost(1.0 / 1.5))
                .subject("perennial", move || light::call(count, callers, within))
                .subject("ractor", move || bare::calls(count, callers, within))
                .run()
                .await;
        }
    }
}

/// Many of them.
async fn light_crowds(wanted: &Wanted) {
    let many = wanted.size(100_000);
    if wanted.wants("light_memory") {
        Line::new("light_memory", "B", Goal::AtMostBoth(1.0 / 9.0, 800.0))
            .subject("perennial", move || light::memory(many))
            .subject("ractor", move || bare::memory(many))
            .subject("kameo", move || kameo::memory(many))
            .run()
            .await;
    }
    if wanted.wants("light_shutdown_100k") {
        Line::new("light_shutdown_100k", "ns", Goal::None)
            .subject("perennial", move || light::shutdown(many))
            .subject("ractor", move || bare::shutdown(many))
            .run()
            .await;
    }
    let lookups = [("lookup", 1), ("lookup_2", 2)];
    if lookups.iter().any(|(name, _)| wanted.wants(name)) {
        let (count, names) = (wanted.size(1_000_000), Arc::new(lookup::Names::start(many).await));
        for (name, readers) in lookups.into_iter().filter(|(name, _)| wanted.wants(name)) {
            let (ours, bare, light) = (names.clone(), names.clone(), names.clone());
            Line::new(name, "ns", Goal::AtMost(1.5))
                .subject("perennial", move || ours.clone().in_registry(count, readers))
                .subject("DashMap", move || bare.clone().in_table(count, readers))
                .subject("perennial light", move || light.clone().among_light(count, readers))
                .run()
                .await;
        }
        names.end().await;
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
