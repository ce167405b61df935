//! `PATCH /m2m_tokens/{id}`: a live opaque token gets other claims, another end, or its end now.

use countersign_authority::{Error, UpdateRequest};

use crate::support::sources::{HOUR, MINUTE, START};
use crate::support::{Story, claims, jwt, opaque, problem_of, refusal_of, revoke_it};

fn ending_in(seconds: Option<f64>) -> UpdateRequest {
    UpdateRequest {
        seconds_until_expiration: Some(seconds.map(Into::into)),
        ..UpdateRequest::default()
    }
}

#[tokio::test]
async fn claims_and_end_change_and_all_else_stays() {
    let story = Story::new().await;
    let sender = story.actor(&story.sender.key).await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    story.clock.advance(MINUTE);
    let update = async |request| story.authority.update_token(&sender, id, request).await;
    let changed = update(UpdateRequest {
        claims: Some(claims(r#"{"role":"admin"}"#)),
        ..UpdateRequest::default()
    })
    .await
    .unwrap();
    assert_eq!(changed.claims, claims(r#"{"role":"admin"}"#));
    assert_eq!(changed.expiration.unwrap().as_millis(), START + HOUR);
    let changed = update(ending_in(Some(7200.0))).await.unwrap();
    assert_eq!(
        changed.expiration.unwrap().as_millis(),
        START + MINUTE + 2 * HOUR
    );
    let changed = update(ending_in(None)).await.unwrap();
    assert_eq!(
        changed.expiration.unwrap().as_millis(),
        START + MINUTE + HOUR,
        "null is the machine's default"
    );
    let changed = update(UpdateRequest {
        claims: Some(None),
        ..UpdateRequest::default()
    })
    .await
    .unwrap();
    assert_eq!(changed.claims, None);
    assert_eq!(changed.created_at.as_millis(), START);
    let verified = story.verify(&story.receiver.key, &token).await.unwrap();
    assert_eq!(verified.claims, None);
    for seconds in [0.0, -1.0, f64::NAN, 1e300] {
        assert_eq!(
            problem_of(update(ending_in(Some(seconds))).await).0,
            "seconds_until_expiration"
        );
    }
}

#[tokio::test]
async fn a_shorter_end_takes_effect_at_once() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    story
        .authority
        .update_token(&owner, id, ending_in(Some(1.0)))
        .await
        .unwrap();
    story.clock.advance(1000);
    assert!(refusal_of(story.verify(&story.receiver.key, &token).await).is_some());
}

#[tokio::test]
async fn it_can_be_revoked_this_way_and_then_changes_no_more() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    let revoked = story
        .authority
        .update_token(&owner, id, revoke_it("moved"))
        .await
        .unwrap();
    assert!(revoked.revoked);
    assert_eq!(revoked.revocation_reason.as_deref(), Some("moved"));
    assert!(story.verify(&story.receiver.key, &token).await.is_err());
    assert_eq!(
        story.logged(&story.home).await.last(),
        Some(&"token.revoked")
    );
    for request in [ending_in(Some(60.0)), revoke_it("again")] {
        let refused = story.authority.update_token(&owner, id, request).await;
        assert!(matches!(refused, Err(Error::NotChangeable(_))));
    }
    let (_, id) = story.token(&story.sender, opaque()).await;
    for (revoked, wrong) in [(None, "revocation_reason"), (Some(false), "revoked")] {
        let without = UpdateRequest {
            revoked,
            ..revoke_it("why")
        };
        let refused = story.authority.update_token(&owner, id, without).await;
        assert_eq!(problem_of(refused).0, wrong);
    }
}

#[tokio::test]
async fn an_expired_token_does_not_come_back() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    story.clock.advance(HOUR);
    let refused = story
        .authority
        .update_token(&owner, id, ending_in(Some(60.0)))
        .await;
    assert!(matches!(refused, Err(Error::NotChangeable(_))));
    assert!(story.verify(&story.home, &token).await.is_err());
}

#[tokio::test]
async fn a_jwt_cannot_be_changed() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, id) = story.token(&story.sender, jwt()).await;
    for request in [ending_in(Some(60.0)), revoke_it("over")] {
        let refused = story.authority.update_token(&owner, id, request).await;
        assert!(matches!(refused, Err(Error::NotChangeable(_))));
    }
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
}

#[tokio::test]
async fn an_empty_update_shows_the_token_as_it_is_and_is_not_in_the_log() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    for request in [opaque(), jwt()] {
        let (_, id) = story.token(&story.sender, request).await;
        let revoked = story.authority.revoke(&owner, id, None).await.unwrap();
        let entries = story.logged(&story.home).await.len();
        let update = UpdateRequest::default();
        let shown = story.authority.update_token(&owner, id, update).await;
        assert_eq!(shown.unwrap(), revoked);
        assert_eq!(story.logged(&story.home).await.len(), entries);
    }
}

#[tokio::test]
async fn only_its_machine_and_its_instance_may_change_it() {
    let story = Story::new().await;
    let (_, id) = story.token(&story.sender, opaque()).await;
    for key in [&story.receiver.key, &story.abroad, &story.stranger.key] {
        let actor = story.actor(key).await;
        let refused = story
            .authority
            .update_token(&actor, id, ending_in(Some(60.0)))
            .await;
        assert!(matches!(refused, Err(Error::NotFound { .. })));
    }
}
