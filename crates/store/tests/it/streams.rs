use perennial_store::{Appended, NewEvent, Store, StoreError};
use serde_json::json;

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    a_stream_grows_gaplessly,
    an_append_needs_the_expected_end,
    a_closed_stream_stays_as_it_is,
    a_run_is_no_stream_to_append_to,
);

async fn a_stream_grows_gaplessly(store: &dyn Store) {
    let first = vec![event("opened"), event("said")];
    assert_eq!(store.create_stream("s", "session", first).await.unwrap().events, 2);
    store.create_stream("t", "session", Vec::new()).await.unwrap();
    for expected in 2..10 {
        let Appended { events, .. } =
            store.append("s", expected, vec![event("said")], false).await.unwrap();
        assert_eq!(events, expected + 1);
    }
    assert_eq!(history(store, "s").await.len(), 10);
    let page = store.events("s", 4, 3).await.unwrap();
    assert_eq!(page.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!(page[0].data, json!({"of": "said"}));
    assert!(store.events("s", 11, 3).await.unwrap().is_empty());
    let streams = store.streams("session").await.unwrap();
    let names: Vec<_> = streams.iter().map(|s| (s.stream.as_str(), s.events, s.closed)).collect();
    assert_eq!(names, [("s", 10, false), ("t", 0, false)]);
    assert!(store.streams("other").await.unwrap().is_empty());
}

async fn an_append_needs_the_expected_end(store: &dyn Store) {
    store.create_stream("s", "session", vec![event("opened")]).await.unwrap();
    for expected in [0, 2] {
        let refused = store.append("s", expected, vec![event("said")], false).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }
    let large = NewEvent { data: json!("x".repeat(2_000_000)), ..event("large") };
    let refused = store.append("s", 1, vec![event("said"), large], true).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert_eq!(history(store, "s").await, ["opened"]);
    let missing = store.append("none", 0, Vec::new(), false).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    let twice = store.create_stream("s", "session", Vec::new()).await;
    assert!(matches!(twice, Err(StoreError::Conflict { .. })), "{twice:?}");
}

async fn a_closed_stream_stays_as_it_is(store: &dyn Store) {
    store.create_stream("s", "session", Vec::new()).await.unwrap();
    store.append("s", 0, vec![event("ended")], true).await.unwrap();
    let refused = store.append("s", 1, vec![event("said")], false).await;
    assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{refused:?}");
    assert!(store.streams("session").await.unwrap()[0].closed);
    assert_eq!(history(store, "s").await, ["ended"]);
}

async fn a_run_is_no_stream_to_append_to(store: &dyn Store) {
    start(store, "r").await;
    let refused = store.append("r", 5, vec![event("said")], false).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
    let refused = store.create_stream("x", "run", Vec::new()).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
}
