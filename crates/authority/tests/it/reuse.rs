//! `min_remaining_ttl_seconds`: an equal live token instead of a new one.

use std::sync::Arc;

use countersign_authority::{IssueRequest, Problem};
use countersign_protocol::ids::TokenId;
use serde_json::json;

use crate::support::sources::{MINUTE, SECOND};
use crate::support::{
    Bot, Story, claiming, jwt, lasting, opaque, pooled, problem_of, revoke_it, string_of,
};

/// Issues and says which token it was and whether it existed before.
async fn issue(story: &Story, bot: &Bot, request: IssueRequest) -> (TokenId, bool) {
    let issued = story.issue(bot, request).await.unwrap();
    (issued.body.id, issued.is_reused)
}

#[tokio::test]
async fn the_same_request_gets_the_same_token_back_with_its_string_and_times() {
    let story = Story::new().await;
    let first = story.issue(&story.sender, pooled(60)).await.unwrap();
    story.clock.advance(10 * MINUTE);
    let second = story.issue(&story.sender, pooled(60)).await.unwrap();
    assert!(!first.is_reused && second.is_reused);
    assert_eq!(first.body, second.body);
    assert_eq!(string_of(&first), string_of(&second));
    assert!(
        story
            .verify(&story.receiver.key, string_of(&second))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn claims_are_compared_as_json() {
    let story = Story::new().await;
    let with = |text| claiming(text, pooled(60));
    let (first, _) = issue(&story, &story.sender, with(r#"{"a":1,"b":[1,2]}"#)).await;
    for equal in [r#"{"b":[1,2],"a":1.0}"#, r#"{"\u0061":1e0,"b":[1,2]}"#] {
        assert_eq!(
            issue(&story, &story.sender, with(equal)).await,
            (first, true)
        );
    }
    for other in [
        r#"{"a":1,"b":[2,1]}"#,
        r#"{"a":1}"#,
        "null",
        r#"{"a":"1","b":[1,2]}"#,
    ] {
        assert!(
            !issue(&story, &story.sender, with(other)).await.1,
            "{other}"
        );
    }
}

#[tokio::test]
async fn scopes_are_compared_as_a_set_with_those_of_now() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let other = story.machine(&story.home, "other", &[]).await;
    let (from, to) = (story.sender.id, other.id);
    let (first, _) = issue(&story, &story.sender, pooled(60)).await;
    story
        .authority
        .create_scope(&owner, from, to)
        .await
        .unwrap();
    let (wider, is_reused) = issue(&story, &story.sender, pooled(60)).await;
    assert!(!is_reused);
    // The same two scopes in another order.
    let authority = &story.authority;
    authority
        .delete_scope(&owner, from, story.receiver.id)
        .await
        .unwrap();
    authority
        .create_scope(&owner, from, story.receiver.id)
        .await
        .unwrap();
    assert_eq!(
        issue(&story, &story.sender, pooled(60)).await,
        (wider, true)
    );
    authority.delete_scope(&owner, from, to).await.unwrap();
    assert_eq!(
        issue(&story, &story.sender, pooled(60)).await,
        (first, true)
    );
}

#[tokio::test]
async fn the_one_with_most_life_left_is_taken_if_it_has_enough() {
    let story = Story::new().await;
    let (short, _) = issue(&story, &story.sender, lasting(600.0, pooled(0))).await;
    let (long, is_reused) = issue(&story, &story.sender, lasting(1200.0, pooled(601))).await;
    assert!(!is_reused && short != long);
    assert_eq!(issue(&story, &story.sender, pooled(0)).await, (long, true));
    assert_eq!(
        issue(&story, &story.sender, pooled(1200)).await,
        (long, true)
    );
    story.clock.advance(1);
    assert!(!issue(&story, &story.sender, pooled(1200)).await.1);
}

#[tokio::test]
async fn a_token_that_is_over_is_not_handed_out() {
    let story = Story::new().await;
    let (first, _) = issue(&story, &story.sender, pooled(0)).await;
    let owner = story.actor(&story.home).await;
    story.authority.revoke(&owner, first, None).await.unwrap();
    let (second, is_reused) = issue(&story, &story.sender, pooled(0)).await;
    assert!(!is_reused);
    // One that was changed leaves the pool, too.
    let update = countersign_authority::UpdateRequest {
        claims: Some(None),
        ..Default::default()
    };
    story
        .authority
        .update_token(&owner, second, update)
        .await
        .unwrap();
    let (third, is_reused) = issue(&story, &story.sender, pooled(0)).await;
    assert!(!is_reused);
    story
        .authority
        .update_token(&owner, third, revoke_it("over"))
        .await
        .unwrap();
    let (fourth, is_reused) = issue(&story, &story.sender, pooled(0)).await;
    assert!(!is_reused);
    story.clock.advance(3600 * SECOND - 1);
    assert_eq!(
        issue(&story, &story.sender, pooled(0)).await,
        (fourth, true)
    );
    story.clock.advance(1);
    assert!(!issue(&story, &story.sender, pooled(0)).await.1);
}

#[tokio::test]
async fn only_tokens_of_the_same_machine_that_were_asked_for_in_this_way_are_reused() {
    let story = Story::new().await;
    let twin = story.machine(&story.home, "twin", &[&story.receiver]).await;
    issue(&story, &story.sender, opaque()).await;
    assert!(!issue(&story, &story.sender, pooled(60)).await.1);
    assert!(!issue(&story, &twin, pooled(60)).await.1);
    let ignored = IssueRequest {
        min_remaining_ttl_seconds: Some(60.into()),
        ..jwt()
    };
    for _ in 0..2 {
        assert!(!issue(&story, &story.sender, ignored.clone()).await.1);
    }
}

#[tokio::test]
async fn to_ask_for_more_life_than_a_new_token_has_is_refused() {
    let story = Story::new().await;
    let rule = Problem::NotAllowed("must be less than the lifetime of the token".into());
    for request in [
        pooled(3600),
        pooled(i64::MAX),
        lasting(60.0, pooled(60)),
        lasting(0.001, pooled(1)),
    ] {
        let refused = story.issue(&story.sender, request).await;
        assert_eq!(
            problem_of(refused),
            ("min_remaining_ttl_seconds".to_owned(), rule.clone())
        );
    }
    assert!(
        story
            .issue(&story.sender, lasting(60.001, pooled(60)))
            .await
            .is_ok()
    );
    story
        .set(&story.home, json!({"null_expiration": "never"}))
        .await;
    let (first, _) = issue(&story, &story.sender, pooled(1_000_000)).await;
    assert_eq!(
        issue(&story, &story.sender, pooled(2_000_000)).await,
        (first, true)
    );
}

#[tokio::test]
async fn without_pooling_the_value_is_checked_and_a_token_is_always_minted() {
    let story = Story::new().await;
    let (before, _) = issue(&story, &story.sender, pooled(60)).await;
    story
        .set(&story.home, json!({"token_pooling": false}))
        .await;
    for _ in 0..2 {
        assert!(!issue(&story, &story.sender, pooled(60)).await.1);
    }
    assert_eq!(
        problem_of(story.issue(&story.sender, pooled(3600)).await).0,
        "min_remaining_ttl_seconds"
    );
    // What was sealed before is erased for good.
    story.set(&story.home, json!({"token_pooling": true})).await;
    let (after, is_reused) = issue(&story, &story.sender, pooled(60)).await;
    assert!(!is_reused && after != before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn equal_requests_at_the_same_time_converge_on_one_token() {
    let story = Arc::new(Story::new().await);
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let story = Arc::clone(&story);
            tokio::spawn(async move { issue(&story, &story.sender, pooled(60)).await })
        })
        .collect();
    let mut issued = Vec::new();
    for task in tasks {
        issued.push(task.await.unwrap());
    }
    let (first, _) = issued[0];
    assert!(issued.iter().all(|(id, _)| *id == first), "{issued:?}");
    assert_eq!(issued.iter().filter(|(_, is_reused)| !is_reused).count(), 1);
}
