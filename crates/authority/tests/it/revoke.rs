//! Revocation: at once, for good, with the first reason.

use countersign_authority::{Actor, Error, ListTokens, Problem};
use countersign_protocol::ids::TokenId;
use serde_json::json;

use crate::support::sources::{HOUR, MINUTE};
use crate::support::{Story, all_of, jwt, opaque, problem_of, refusal_of};

async fn revoke(
    story: &Story,
    actor: &Actor,
    id: TokenId,
    reason: &str,
) -> Result<countersign_protocol::body::M2mToken, Error> {
    story.authority.revoke(actor, id, Some(reason.into())).await
}

#[tokio::test]
async fn a_key_that_ended_while_its_request_was_under_way_changes_nothing() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let authority = &story.authority;
    let (_, id) = story.token(&story.sender, opaque()).await;
    let machine = story.actor(&story.sender.key).await;
    authority
        .rotate_machine_key(&owner, story.sender.id, 0)
        .await
        .unwrap();
    let refused = revoke(&story, &machine, id, "late").await;
    assert!(matches!(refused, Err(Error::MachineKeyInvalid)));

    let key = authority.create_instance_key(&owner, false).await.unwrap();
    let ended = story.actor(key.key.expose()).await;
    authority
        .revoke_instance_key(&owner, key.info.id.as_str())
        .await
        .unwrap();
    let refused = revoke(&story, &ended, id, "late").await;
    assert!(matches!(refused, Err(Error::InstanceKeyInvalid)));
    assert!(revoke(&story, &owner, id, "in time").await.is_ok());
}

#[tokio::test]
async fn the_first_revocation_counts_and_a_second_one_changes_nothing() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    for request in [opaque(), jwt()] {
        let (token, id) = story.token(&story.sender, request).await;
        let entries = story.logged(&story.home).await.len();
        story.clock.advance(MINUTE);
        let now = story.authority.now();
        let first = revoke(&story, &owner, id, "leaked").await.unwrap();
        assert!(first.revoked);
        assert_eq!(first.revocation_reason.as_deref(), Some("leaked"));
        assert_eq!(first.updated_at, now);
        story.clock.advance(MINUTE);
        let second = revoke(&story, &owner, id, "again").await.unwrap();
        assert_eq!(first, second);
        assert!(refusal_of(story.verify(&story.home, &token).await).is_some());
        let logged = story.log(&story.home).await;
        assert_eq!(logged.len(), entries + 1);
        let entry = logged.last().unwrap();
        assert_eq!(entry.kind.as_str(), "token.revoked");
        assert_eq!(entry.subject, id.to_string());
        let format = if token.starts_with("mt_") {
            "opaque"
        } else {
            "jwt"
        };
        let facts = json!({
            "token_id": id,
            "subject": story.sender.id,
            "receivers": [story.receiver.id],
            "names_receivers": true,
            "format": format,
            "expires_at": first.expiration,
        });
        assert_eq!(entry.detail, json!({"token": facts, "reason": "leaked"}));
    }
}

#[tokio::test]
async fn an_expired_token_can_be_revoked() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (_, id) = story.token(&story.sender, opaque()).await;
    story.clock.advance(HOUR);
    let revoked = story.authority.revoke(&owner, id, None).await.unwrap();
    assert!(revoked.revoked && revoked.expired);
    assert_eq!(revoked.revocation_reason, None);
}

#[tokio::test]
async fn a_machine_revokes_its_own_tokens_and_nobody_elses() {
    let story = Story::new().await;
    let sender = story.actor(&story.sender.key).await;
    let receiver = story.actor(&story.receiver.key).await;
    let foreign = story.actor(&story.abroad).await;
    for request in [opaque(), jwt()] {
        let (token, id) = story.token(&story.sender, request).await;
        for actor in [&receiver, &foreign] {
            let refused = revoke(&story, actor, id, "mine").await;
            assert!(matches!(
                refused,
                Err(Error::NotFound { noun: "token", .. })
            ));
        }
        assert!(story.verify(&story.receiver.key, &token).await.is_ok());
        assert!(revoke(&story, &sender, id, "mine").await.is_ok());
        assert!(story.verify(&story.receiver.key, &token).await.is_err());
    }
}

#[tokio::test]
async fn an_id_must_be_right_in_both_halves() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    let near = TokenId::from_parts(id.locator(), id.rest() ^ 1);
    let refused = revoke(&story, &owner, near, "guess").await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
}

#[tokio::test]
async fn tokens_of_a_deleted_machine_are_not_found() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (_, id) = story.token(&story.sender, opaque()).await;
    story
        .authority
        .delete_machine(&owner, story.sender.id)
        .await
        .unwrap();
    let refused = revoke(&story, &owner, id, "late").await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_reason_has_255_characters_at_most() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (_, id) = story.token(&story.sender, opaque()).await;
    let refused = revoke(&story, &owner, id, &"é".repeat(256)).await;
    assert_eq!(
        problem_of(refused),
        ("revocation_reason".to_owned(), Problem::TooLong(255))
    );
    let refused = revoke(&story, &owner, id, "a\0b").await;
    assert_eq!(problem_of(refused).0, "revocation_reason");
    assert!(revoke(&story, &owner, id, &"é".repeat(255)).await.is_ok());
}

#[tokio::test]
async fn a_list_shows_what_is_asked_for_newest_first() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let mut ids = Vec::new();
    for request in [
        crate::support::lasting(60.0, opaque()),
        opaque(),
        opaque(),
        jwt(),
    ] {
        story.clock.advance(1);
        ids.push(story.token(&story.sender, request).await.1);
    }
    let [expired, revoked, live, signed] = ids[..] else {
        panic!("four tokens")
    };
    story.authority.revoke(&owner, revoked, None).await.unwrap();
    story.clock.advance(MINUTE);
    let list = async |actor: &Actor, (revoked, expired), format: &str, limit: i64, offset: i64| {
        let list = ListTokens {
            revoked,
            expired,
            format: Some(format.to_owned()),
            limit: Some(limit.into()),
            offset: Some(offset.into()),
            ..all_of(story.sender.id)
        };
        let listed = story.authority.list_tokens(actor, list).await.unwrap();
        let tokens = listed.m2m_tokens;
        assert!(tokens.iter().all(|token| token.token.is_none()));
        (
            tokens.iter().map(|token| token.id).collect::<Vec<_>>(),
            listed.total_count,
        )
    };
    let sender = story.actor(&story.sender.key).await;
    for actor in [&owner, &sender] {
        assert_eq!(
            list(actor, (false, false), "opaque", 10, 0).await,
            (vec![live], 1)
        );
        assert_eq!(
            list(actor, (true, false), "opaque", 10, 0).await,
            (vec![live, revoked], 2)
        );
        assert_eq!(
            list(actor, (false, true), "opaque", 10, 0).await,
            (vec![live, expired], 2)
        );
        assert_eq!(
            list(actor, (true, true), "opaque", 10, 0).await,
            (vec![live, revoked, expired], 3)
        );
        assert_eq!(
            list(actor, (true, true), "all", 2, 1).await,
            (vec![live, revoked], 4)
        );
        assert_eq!(
            list(actor, (false, false), "jwt", 10, 0).await,
            (vec![signed], 1)
        );
        assert_eq!(
            list(actor, (true, true), "opaque", 10, 9).await,
            (vec![], 3)
        );
    }
    let receiver = story.actor(&story.receiver.key).await;
    let refused = story
        .authority
        .list_tokens(&receiver, all_of(story.sender.id))
        .await;
    assert!(matches!(refused, Err(Error::Forbidden(_))));
}

#[tokio::test]
async fn a_list_names_a_machine_and_a_known_format_and_a_page_within_bounds() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let all = || all_of(story.sender.id);
    for (wrong, name) in [
        (
            ListTokens {
                subject: None,
                ..all()
            },
            "subject",
        ),
        (
            ListTokens {
                subject: Some("mch_x".to_owned()),
                ..all()
            },
            "subject",
        ),
        (
            ListTokens {
                format: Some("Opaque".to_owned()),
                ..all()
            },
            "format",
        ),
        (
            ListTokens {
                limit: Some(0.into()),
                ..all()
            },
            "limit",
        ),
        (
            ListTokens {
                limit: Some(101.into()),
                ..all()
            },
            "limit",
        ),
        (
            ListTokens {
                offset: Some((-1).into()),
                ..all()
            },
            "offset",
        ),
    ] {
        let refused = story.authority.list_tokens(&owner, wrong).await;
        assert_eq!(problem_of(refused).0, name);
    }
    let unknown = ListTokens {
        subject: Some(story.stranger.id.to_string()),
        ..all()
    };
    let refused = story.authority.list_tokens(&owner, unknown).await;
    assert!(matches!(
        refused,
        Err(Error::NotFound {
            noun: "machine",
            ..
        })
    ));
    // What is left out means ten opaque tokens that are live.
    for request in [opaque(), opaque(), jwt()] {
        story.token(&story.sender, request).await;
    }
    let subject = Some(story.sender.id.to_string());
    let list = ListTokens {
        subject,
        ..ListTokens::default()
    };
    let listed = story.authority.list_tokens(&owner, list).await.unwrap();
    assert_eq!((listed.m2m_tokens.len(), listed.total_count), (2, 2));
}
