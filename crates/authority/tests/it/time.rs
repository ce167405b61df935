//! Time cannot be turned back (P10).

use countersign_authority::Refusal;
use countersign_store::Store as _;

use crate::support::sources::{DAY, HOUR, MINUTE, START};
use crate::support::{Story, jwt, lasting, opaque};

#[tokio::test]
async fn a_clock_that_is_set_back_revives_nothing() {
    let story = Story::new().await;
    let (token, _) = story.token(&story.sender, opaque()).await;
    let (signed, _) = story.token(&story.sender, jwt()).await;
    story.clock.advance(HOUR + MINUTE);
    for token in [&token, &signed] {
        assert_eq!(
            story.refusal(&story.home, token).await,
            Some((Refusal::Expired, true))
        );
    }
    let now = story.authority.now();
    story.clock.step_wall(-30 * DAY);
    assert_eq!(story.authority.now(), now);
    for token in [&token, &signed] {
        assert_eq!(
            story.refusal(&story.home, token).await,
            Some((Refusal::Expired, true))
        );
    }
    // Time goes on from where it was.
    story.clock.advance(MINUTE);
    assert_eq!(story.authority.now().millis_since(now), MINUTE);
    let (token, _) = story.token(&story.sender, opaque()).await;
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
}

#[tokio::test]
async fn not_even_by_a_restart() {
    let story = Story::new().await;
    let (token, _) = story.token(&story.sender, opaque()).await;
    story.clock.advance(HOUR);
    story.authority.flush().await.unwrap();
    story.clock.step_wall(-DAY);
    let story = Story {
        world: story.world.restart().await,
        ..story
    };
    assert_eq!(story.authority.now().as_millis(), START + HOUR);
    assert_eq!(
        story.refusal(&story.home, &token).await,
        Some((Refusal::Expired, true))
    );
}

#[tokio::test]
async fn a_jwt_from_the_future_is_refused_until_its_time_is_near() {
    let story = Story::new().await;
    // The clock was wrong when the token was made, and nothing was written since.
    story.clock.step_wall(MINUTE);
    let (token, _) = story.token(&story.sender, jwt()).await;
    story.clock.step_wall(-MINUTE);
    let story = Story {
        world: story.world.restart().await,
        ..story
    };
    assert_eq!(story.authority.now().as_millis(), START);
    assert_eq!(
        story.refusal(&story.home, &token).await,
        Some((Refusal::Expired, true))
    );
    story.clock.advance(50_000 - 1);
    assert_eq!(
        story.refusal(&story.home, &token).await,
        Some((Refusal::Expired, true))
    );
    story.clock.advance(1);
    assert!(story.verify(&story.home, &token).await.is_ok());
}

#[tokio::test]
async fn a_jump_forward_expires_what_it_passes_for_good() {
    let story = Story::new().await;
    let (token, _) = story.token(&story.sender, opaque()).await;
    story.clock.step_wall(DAY);
    assert_eq!(
        story.refusal(&story.home, &token).await,
        Some((Refusal::Expired, true))
    );
    story.clock.step_wall(-DAY);
    assert_eq!(
        story.refusal(&story.home, &token).await,
        Some((Refusal::Expired, true))
    );
}

#[tokio::test]
async fn an_old_key_does_not_come_back_with_an_old_clock() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let authority = &story.authority;
    authority
        .rotate_machine_key(&owner, story.sender.id, 60)
        .await
        .unwrap();
    story.clock.advance(MINUTE);
    let accepts = countersign_authority::Accepts::Machine;
    assert!(
        authority
            .authenticate(&story.sender.key, accepts)
            .await
            .is_err()
    );
    story.clock.step_wall(-HOUR);
    assert!(
        authority
            .authenticate(&story.sender.key, accepts)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn tokens_that_are_over_are_deleted_after_thirty_days_and_no_earlier() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    story.clock.advance(HOUR + 30 * DAY - 1);
    story.authority.maintain().await.unwrap();
    assert_eq!(
        story.refusal(&story.home, &token).await,
        Some((Refusal::Expired, true))
    );
    story.clock.advance(HOUR);
    story.authority.maintain().await.unwrap();
    assert_eq!(
        story.refusal(&story.home, &token).await,
        Some((Refusal::Unknown, true))
    );
    assert!(story.authority.revoke(&owner, id, None).await.is_err());
}

#[tokio::test]
async fn a_revoked_jwt_is_remembered_until_ten_minutes_after_its_expiry() {
    let life = 50 * DAY;
    let seconds = 50.0 * 86_400.0;
    for (millis, is_kept) in [(10 * MINUTE - 1, true), (10 * MINUTE, false)] {
        let story = Story::new().await;
        let owner = story.actor(&story.home).await;
        let exists = async |id: countersign_protocol::ids::TokenId| {
            let found = story.store.find_token(id.locator()).await;
            found.unwrap().is_some()
        };
        let (token, signed) = story.token(&story.sender, lasting(seconds, jwt())).await;
        let (_, opaque) = story.token(&story.sender, lasting(seconds, opaque())).await;
        for id in [signed, opaque] {
            story.authority.revoke(&owner, id, None).await.unwrap();
        }
        // Long after other revoked tokens are deleted.
        story.clock.advance(30 * DAY + 1);
        story.authority.maintain().await.unwrap();
        assert_eq!((exists(signed).await, exists(opaque).await), (true, false));
        story.clock.advance(life - 30 * DAY - 1 - HOUR);
        story.authority.maintain().await.unwrap();
        assert_eq!(
            story.refusal(&story.home, &token).await,
            Some((Refusal::Revoked, true))
        );
        story.clock.advance(HOUR + millis);
        story.authority.maintain().await.unwrap();
        assert_eq!(exists(signed).await, is_kept);
    }
}
