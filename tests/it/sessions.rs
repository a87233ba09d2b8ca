//! Conversations outlive whoever keeps them.

use perennial::{
    Runtime, Store,
    engine::sessions::{SessionError, Turn},
};

fn turn(content: &str) -> Turn {
    Turn { role: "user".to_owned(), content: content.to_owned() }
}

#[tokio::test(start_paused = true)]
async fn turns_keep_their_order_over_a_crash_and_a_closed_session_takes_none() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let sessions = runtime.sessions();
    sessions.create("a").await.unwrap();
    assert_eq!(sessions.create("a").await, Err(SessionError::Exists("a".into())));
    assert_eq!(sessions.append("a", turn("1")).await, Ok(1));
    for crash in [true, false] {
        let tree = runtime.supervision_tree();
        let path = "/perennial/sessions";
        let victim = if crash { tree.crash(path) } else { tree.kill(path) };
        victim.unwrap().exit().await;
    }
    assert_eq!(sessions.append("a", turn("2")).await, Ok(2));
    assert_eq!(sessions.turns("a").await.unwrap(), [turn("1"), turn("2")]);
    sessions.close("a").await.unwrap();
    assert_eq!(sessions.append("a", turn("3")).await, Err(SessionError::Closed("a".into())));
    let listed = sessions.list().await.unwrap();
    assert_eq!((listed.len(), listed[0].turns, listed[0].closed), (1, 2, true));
    let missing = Err(SessionError::NotFound("b".into()));
    assert_eq!(sessions.append("b", turn("1")).await, missing);
    assert!(matches!(sessions.create("").await, Err(SessionError::InvalidName(_))));
    let long = turn(&"x".repeat(perennial::engine::sessions::TURN_BYTES_MAX + 1));
    assert!(matches!(sessions.append("a", long).await, Err(SessionError::TooLong(_))));
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn two_writers_of_one_session_take_turns() {
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let sessions = runtime.sessions();
    sessions.create("a").await.unwrap();
    let write = |who: &'static str| async move {
        for number in 0..20 {
            sessions.append("a", turn(&format!("{who}{number}"))).await.unwrap();
        }
    };
    tokio::join!(write("x"), write("y"));
    let turns = sessions.turns("a").await.unwrap();
    assert_eq!(turns.len(), 40);
    for who in ["x", "y"] {
        let own: Vec<_> = turns.iter().filter(|turn| turn.content.starts_with(who)).collect();
        let expected: Vec<_> = (0..20).map(|number| turn(&format!("{who}{number}"))).collect();
        assert!(own.into_iter().eq(&expected), "each writer's own order");
    }
    runtime.shutdown().await;
}
