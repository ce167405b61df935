//! Who may know what about a token. Any doubt is a refusal.

use countersign_authority::Refusal;
use countersign_protocol::jwt::{JwtClaims, SigningKey, generate_rsa_key};
use countersign_protocol::limits::MAX_JWT_BYTES;
use serde_json::json;

use crate::support::sources::{HOUR, MINUTE, SECOND, START};
use crate::support::{Story, claiming, jwt, lasting, opaque, payload_of};

const UNKNOWN: Option<(Refusal, bool)> = Some((Refusal::Unknown, false));
const NOT_IN_SCOPE: Option<(Refusal, bool)> = Some((Refusal::NotInScope, false));

fn told(refusal: Refusal) -> Option<(Refusal, bool)> {
    Some((refusal, true))
}

#[tokio::test]
async fn a_receiver_in_the_scopes_and_the_instance_learn_all_about_a_live_token() {
    let story = Story::new().await;
    for request in [opaque(), jwt()] {
        let (token, id) = story
            .token(&story.sender, claiming(r#"{"a":1}"#, request))
            .await;
        for key in [&story.receiver.key, &story.home] {
            let verified = story.verify(key, &token).await.unwrap();
            assert_eq!((verified.id, verified.subject), (id, story.sender.id));
            assert!(verified.scopes.contains(&story.receiver.id));
            assert_eq!(verified.claims.unwrap().as_str(), r#"{"a":1}"#);
            assert_eq!(verified.expiration.unwrap().as_millis(), START + HOUR);
            assert!(verified.token.is_none(), "the string is never repeated");
        }
    }
}

#[tokio::test]
async fn a_verification_moves_last_used_of_an_opaque_token_and_lists_it_for_both() {
    let story = Story::new().await;
    let (token, _) = story.token(&story.sender, opaque()).await;
    let (signed, _) = story.token(&story.sender, jwt()).await;
    story.clock.advance(MINUTE);
    let used = Some(START + MINUTE);
    let millis = |time: Option<countersign_protocol::time::Timestamp>| {
        time.map(countersign_protocol::time::Timestamp::as_millis)
    };
    let verified = story.verify(&story.receiver.key, &token).await.unwrap();
    assert_eq!(millis(verified.last_used_at), used);
    assert_eq!(Some(verified.updated_at.as_millis()), used);
    let verified = story.verify(&story.receiver.key, &signed).await.unwrap();
    assert_eq!(verified.last_used_at, None);
    assert_eq!(verified.updated_at.as_millis(), START);
    // A refusal is no use.
    story.clock.advance(MINUTE);
    assert!(story.verify(&story.sender.key, &token).await.is_err());
    story.authority.flush().await.unwrap();
    let story = Story {
        world: story.world.restart().await,
        ..story
    };
    let owner = story.actor(&story.home).await;
    let listed = story.all_tokens(&owner, story.sender.id).await;
    assert_eq!(listed.total_count, 2);
    assert!(
        listed
            .m2m_tokens
            .iter()
            .all(|token| millis(token.last_used_at) == used)
    );
}

#[tokio::test]
async fn whoever_is_not_in_the_scopes_learns_nothing() {
    let story = Story::new().await;
    let other = story.machine(&story.home, "other", &[&story.sender]).await;
    for request in [opaque(), jwt()] {
        let (token, id) = story.token(&story.sender, request).await;
        // The minter is not in its own scopes.
        for key in [&story.sender.key, &other.key] {
            assert_eq!(story.refusal(key, &token).await, NOT_IN_SCOPE);
        }
        let owner = story.actor(&story.home).await;
        story.authority.revoke(&owner, id, None).await.unwrap();
        assert_eq!(story.refusal(&other.key, &token).await, NOT_IN_SCOPE);
        assert_eq!(
            story.refusal(&story.receiver.key, &token).await,
            told(Refusal::Revoked)
        );
        assert_eq!(
            story.refusal(&story.home, &token).await,
            told(Refusal::Revoked)
        );
    }
}

#[tokio::test]
async fn an_edge_made_or_removed_later_changes_no_token() {
    let story = Story::new().await;
    let other = story.machine(&story.home, "other", &[]).await;
    let owner = story.actor(&story.home).await;
    let old = [
        story.token(&story.sender, opaque()).await.0,
        story.token(&story.sender, jwt()).await.0,
    ];
    let authority = &story.authority;
    authority
        .create_scope(&owner, story.sender.id, other.id)
        .await
        .unwrap();
    authority
        .delete_scope(&owner, story.sender.id, story.receiver.id)
        .await
        .unwrap();
    for token in &old {
        assert!(story.verify(&story.receiver.key, token).await.is_ok());
        assert_eq!(story.refusal(&other.key, token).await, NOT_IN_SCOPE);
    }
    for request in [opaque(), jwt()] {
        let (token, _) = story.token(&story.sender, request).await;
        assert!(story.verify(&other.key, &token).await.is_ok());
        assert_eq!(
            story.refusal(&story.receiver.key, &token).await,
            NOT_IN_SCOPE
        );
    }
}

#[tokio::test]
async fn a_jwt_without_the_scopes_claim_follows_the_edges_of_now() {
    let story = Story::new().await;
    story
        .set(&story.home, json!({"jwt_scopes_claim": false}))
        .await;
    let (token, _) = story.token(&story.sender, jwt()).await;
    let owner = story.actor(&story.home).await;
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
    let (from, to) = (story.sender.id, story.receiver.id);
    story
        .authority
        .delete_scope(&owner, from, to)
        .await
        .unwrap();
    assert_eq!(
        story.refusal(&story.receiver.key, &token).await,
        NOT_IN_SCOPE
    );
    story
        .authority
        .create_scope(&owner, from, to)
        .await
        .unwrap();
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
}

#[tokio::test]
async fn a_scopes_claim_that_the_caller_wrote_opens_no_door() {
    let story = Story::new().await;
    story
        .set(&story.home, json!({"jwt_scopes_claim": false}))
        .await;
    let other = story.machine(&story.home, "other", &[]).await;
    let forged = format!(r#"{{"scopes":"{}"}}"#, other.id);
    let (token, _) = story.token(&story.sender, claiming(&forged, jwt())).await;
    assert_eq!(payload_of(&token)["scopes"], json!(other.id));
    assert_eq!(story.refusal(&other.key, &token).await, NOT_IN_SCOPE);
    let verified = story.verify(&story.receiver.key, &token).await.unwrap();
    assert_eq!(verified.scopes.as_str(), story.receiver.id.as_str());
    // Nor does it stay open where an edge was there when it was minted, nor after the instance writes the claim again.
    let own = format!(r#"{{"scopes":"{}"}}"#, story.receiver.id);
    let (token, _) = story.token(&story.sender, claiming(&own, jwt())).await;
    let owner = story.actor(&story.home).await;
    story
        .authority
        .delete_scope(&owner, story.sender.id, story.receiver.id)
        .await
        .unwrap();
    story
        .set(&story.home, json!({"jwt_scopes_claim": true}))
        .await;
    assert_eq!(
        story.refusal(&story.receiver.key, &token).await,
        NOT_IN_SCOPE
    );
}

#[tokio::test]
async fn an_opaque_token_is_over_at_its_very_millisecond() {
    let story = Story::new().await;
    let (token, _) = story.token(&story.sender, lasting(1.0, opaque())).await;
    story.clock.advance(999);
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
    story.clock.advance(1);
    for key in [&story.receiver.key, &story.home] {
        assert_eq!(story.refusal(key, &token).await, told(Refusal::Expired));
    }
    assert_eq!(story.refusal(&story.sender.key, &token).await, NOT_IN_SCOPE);
}

#[tokio::test]
async fn a_jwt_has_five_seconds_of_grace_and_no_more() {
    let story = Story::new().await;
    let (token, _) = story.token(&story.sender, lasting(1.0, jwt())).await;
    story.clock.advance(SECOND + 4_999);
    assert!(
        !story
            .verify(&story.receiver.key, &token)
            .await
            .unwrap()
            .expired
    );
    story.clock.advance(1);
    assert_eq!(
        story.refusal(&story.receiver.key, &token).await,
        told(Refusal::Expired)
    );
}

#[tokio::test]
async fn a_revoked_token_that_is_also_expired_counts_as_revoked() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    for request in [opaque(), jwt()] {
        let (token, id) = story.token(&story.sender, request).await;
        story.clock.advance(2 * HOUR);
        assert_eq!(
            story.refusal(&story.home, &token).await,
            told(Refusal::Expired)
        );
        story.authority.revoke(&owner, id, None).await.unwrap();
        assert_eq!(
            story.refusal(&story.home, &token).await,
            told(Refusal::Revoked)
        );
    }
}

#[tokio::test]
async fn a_token_dies_with_its_machine_and_lives_on_without_its_receiver() {
    let story = Story::new().await;
    let other = story.machine(&story.home, "other", &[]).await;
    let both = story
        .machine(&story.home, "both", &[&story.receiver, &other])
        .await;
    let owner = story.actor(&story.home).await;
    let tokens = [
        story.token(&both, opaque()).await.0,
        story.token(&both, jwt()).await.0,
    ];
    story
        .authority
        .delete_machine(&owner, other.id)
        .await
        .unwrap();
    for token in &tokens {
        let verified = story.verify(&story.receiver.key, token).await.unwrap();
        assert!(verified.scopes.contains(&other.id), "the deleted id stays");
    }
    story
        .authority
        .delete_machine(&owner, both.id)
        .await
        .unwrap();
    for token in &tokens {
        assert_eq!(story.refusal(&story.receiver.key, token).await, UNKNOWN);
        assert_eq!(
            story.refusal(&story.home, token).await,
            told(Refusal::Unknown)
        );
    }
}

#[tokio::test]
async fn what_is_no_token_of_this_instance_is_unknown() {
    let story = Story::new().await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    let (signed, _) = story.token(&story.sender, jwt()).await;
    let mut junk = vec![
        String::new(),
        "mt_".to_owned(),
        id.to_string(),
        token.to_uppercase(),
        format!("{token}x"),
        format!(" {token}"),
        token.replace("mt_", "m2m_"),
        format!("mt_{}", "X".repeat(32)),
        "\u{0}\u{7f}é".to_owned(),
        "x".repeat(MAX_JWT_BYTES + 1),
        story.sender.key.clone(),
        story.home.clone(),
        "..".to_owned(),
        format!("{signed}="),
        format!("{signed}."),
        signed.trim_end_matches(|last| last != '.').to_owned(),
        format!("{}.{}", "e30", signed.split_once('.').unwrap().1),
    ];
    // One changed character anywhere.
    for base in [&token, &signed] {
        for place in (3..base.len()).step_by(1 + base.len() / 43) {
            let mut bytes = base.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            if bytes != base.as_bytes() {
                junk.push(String::from_utf8(bytes).unwrap());
            }
        }
    }
    for text in &junk {
        assert_eq!(
            story.refusal(&story.receiver.key, text).await,
            UNKNOWN,
            "{text}"
        );
        assert_eq!(
            story.refusal(&story.home, text).await,
            told(Refusal::Unknown),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_string_with_the_right_place_and_checksum_but_another_secret_is_unknown() {
    let story = Story::new().await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    let random = crate::support::sources::SeededRandom::new(99);
    let forged = countersign_protocol::secret::TokenString::generate(id.locator(), &random);
    assert_eq!(forged.expose()[..14], token[..14]);
    assert_eq!(
        story.refusal(&story.receiver.key, forged.expose()).await,
        UNKNOWN
    );
}

#[tokio::test]
async fn a_jwt_signed_by_anybody_else_is_unknown() {
    let story = Story::new().await;
    let (token, id) = story.token(&story.sender, jwt()).await;
    let (foreign, _) = story.token(&story.stranger, jwt()).await;
    assert_eq!(story.refusal(&story.receiver.key, &foreign).await, UNKNOWN);
    // The right kid and claims, the wrong key.
    let kid = story.instance_id(&story.home).await.first_signing_key();
    let forger = SigningKey::from_pkcs8(kid, &generate_rsa_key().unwrap()).unwrap();
    let scopes = [story.receiver.id].into_iter().collect();
    let claims = JwtClaims {
        issuer: "https://auth.example.com",
        subject: story.sender.id,
        issued_at: START / 1000,
        expires_at: START / 1000 + 3600,
        id,
        scopes: Some(&scopes),
        custom: None,
    };
    let forged = forger.sign(&claims).unwrap();
    assert_eq!(payload_of(&forged), payload_of(&token));
    assert_eq!(story.refusal(&story.receiver.key, &forged).await, UNKNOWN);
    assert_eq!(
        story.refusal(&story.home, &forged).await,
        told(Refusal::Unknown)
    );
}

#[tokio::test]
async fn a_key_of_another_instance_verifies_nothing_here() {
    let story = Story::new().await;
    for request in [opaque(), jwt()] {
        let (token, _) = story.token(&story.sender, request).await;
        assert_eq!(story.refusal(&story.stranger.key, &token).await, UNKNOWN);
        assert_eq!(
            story.refusal(&story.abroad, &token).await,
            told(Refusal::Unknown)
        );
    }
}
