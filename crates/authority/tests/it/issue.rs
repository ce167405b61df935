//! What a new token is like, and which ones are refused.

use countersign_authority::{Error, Problem};
use countersign_protocol::limits::MAX_TOKEN_TTL_SECONDS;
use countersign_protocol::secret::{TokenString, has_checksum};
use serde_json::{Value, json};

use crate::support::sources::{HOUR, START};
use crate::support::{
    Story, claiming, claims, header_of, jwt, lasting, opaque, payload_of, pooled, problem_of,
    secret_of, string_of,
};

#[tokio::test]
async fn an_opaque_token_has_the_machines_lifetime_scopes_and_a_string_that_is_not_its_id() {
    let story = Story::new().await;
    let issued = story
        .issue(&story.sender, claiming(r#"{"role":"bot"}"#, opaque()))
        .await
        .unwrap();
    let string = string_of(&issued);
    assert_eq!(string.len(), TokenString::LENGTH);
    assert!(string.starts_with("mt_") && has_checksum(string));
    assert_ne!(string, issued.body.id.to_string());
    assert!(!issued.is_reused);
    let mut body = serde_json::to_value(&issued.body).unwrap();
    body.as_object_mut().unwrap().remove("token");
    assert_eq!(
        body,
        json!({
            "object": "machine_to_machine_token",
            "id": issued.body.id,
            "subject": story.sender.id,
            "scopes": [story.receiver.id],
            "claims": {"role": "bot"},
            "revoked": false,
            "revocation_reason": null,
            "expired": false,
            "expiration": START + HOUR,
            "last_used_at": null,
            "created_at": START,
            "updated_at": START,
        })
    );
}

#[tokio::test]
async fn a_jwt_carries_whole_seconds_a_category_and_the_scopes_and_nothing_unasked() {
    let story = Story::new().await;
    story.clock.advance(1_500);
    let request = claiming(
        r#"{"aud":"https://api.example.com","n":1.0}"#,
        lasting(0.7, jwt()),
    );
    let issued = story.issue(&story.sender, request).await.unwrap();
    let now = START / 1000 + 1;
    let token = string_of(&issued);
    let kid = header_of(token)["kid"].clone();
    assert_eq!(
        header_of(token),
        json!({"alg": "RS256", "typ": "JWT", "kid": kid, "cat": "cl_B7d4PD333AAA"})
    );
    assert_eq!(
        kid,
        json!(story.instance_id(&story.home).await),
        "the first key's kid is the instance's id"
    );
    assert_eq!(
        payload_of(token),
        json!({
            "iss": "https://auth.example.com", "sub": story.sender.id, "iat": now, "nbf": now - 10, "exp": now + 1,
            "jti": issued.body.id, "scopes": story.receiver.id, "aud": "https://api.example.com", "n": 1.0,
        })
    );
    let times = (issued.body.created_at, issued.body.expiration.unwrap());
    assert_eq!(
        (times.0.as_millis(), times.1.as_millis()),
        (now * 1000, now * 1000 + 1000)
    );
}

#[tokio::test]
async fn the_second_instances_jwts_name_their_own_issuer() {
    let story = Story::new().await;
    let instance = story.instance_id(&story.abroad).await;
    let issued = story.issue(&story.stranger, jwt()).await.unwrap();
    let issuer = format!("https://auth.example.com/{instance}");
    assert_eq!(payload_of(string_of(&issued))["iss"], issuer);
    story
        .set(
            &story.abroad,
            json!({"issuer": "https://clerk.example.com"}),
        )
        .await;
    let issued = story.issue(&story.stranger, jwt()).await.unwrap();
    assert_eq!(
        payload_of(string_of(&issued))["iss"],
        "https://clerk.example.com"
    );
}

#[tokio::test]
async fn lifetimes_may_have_fractions_and_have_two_ends() {
    let story = Story::new().await;
    #[expect(clippy::cast_precision_loss, reason = "far below 53 bits")]
    let longest = MAX_TOKEN_TTL_SECONDS as f64;
    for (seconds, millis) in [
        (0.5, 500),
        (0.000_1, 1),
        (1.2345, 1235),
        (longest, MAX_TOKEN_TTL_SECONDS * 1000),
    ] {
        let issued = story
            .issue(&story.sender, lasting(seconds, opaque()))
            .await
            .unwrap();
        assert_eq!(
            issued.body.expiration.unwrap().as_millis(),
            START + millis,
            "{seconds}"
        );
    }
    for seconds in [
        0.0,
        -0.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        longest + 0.001,
        1e300,
    ] {
        for request in [opaque(), jwt()] {
            let (name, _) = problem_of(story.issue(&story.sender, lasting(seconds, request)).await);
            assert_eq!(name, "seconds_until_expiration", "{seconds}");
        }
    }
}

#[tokio::test]
async fn without_a_lifetime_an_opaque_token_never_expires_where_the_instance_says_so() {
    let story = Story::new().await;
    story
        .set(&story.home, json!({"null_expiration": "never"}))
        .await;
    let issued = story.issue(&story.sender, opaque()).await.unwrap();
    assert_eq!(issued.body.expiration, None);
    let (forever, _) = story.token(&story.sender, opaque()).await;
    story.clock.advance(100 * 365 * 24 * HOUR);
    assert!(story.verify(&story.home, &forever).await.is_ok());
    // A JWT always ends.
    let issued = story.issue(&story.sender, jwt()).await.unwrap();
    assert!(issued.body.expiration.is_some());
}

#[tokio::test]
async fn a_longest_jwt_life_cuts_the_default_and_refuses_what_was_asked_for() {
    let story = Story::new().await;
    story.set(&story.home, json!({"max_jwt_ttl": 60})).await;
    let issued = story.issue(&story.sender, jwt()).await.unwrap();
    assert_eq!(issued.body.expiration.unwrap().as_millis(), START + 60_000);
    assert!(
        story
            .issue(&story.sender, lasting(60.0, jwt()))
            .await
            .is_ok()
    );
    let refused = story.issue(&story.sender, lasting(60.5, jwt())).await;
    assert_eq!(
        problem_of(refused),
        ("seconds_until_expiration".to_owned(), Problem::TooLarge(60))
    );
    assert!(
        story
            .issue(&story.sender, lasting(61.0, opaque()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_jwt_refuses_the_claims_that_the_authority_writes() {
    let story = Story::new().await;
    for name in ["iss", "sub", "exp", "nbf", "iat", "jti", "scopes"] {
        let claims = json!({"a": 1, name: "x"}).to_string();
        let refused = story.issue(&story.sender, claiming(&claims, jwt())).await;
        assert!(
            matches!(&refused, Err(Error::ReservedClaim(reserved)) if reserved == name),
            "{name}: {refused:?}"
        );
        // An opaque token may hold anything.
        assert!(
            story
                .issue(&story.sender, claiming(&claims, opaque()))
                .await
                .is_ok()
        );
    }
    // A name in another spelling is the same name.
    let refused = story
        .issue(&story.sender, claiming(r#"{"\u0073ub":1}"#, jwt()))
        .await;
    assert!(matches!(refused, Err(Error::ReservedClaim(name)) if name == "sub"));
    for claims in ["[1]", "1", "\"text\"", "true"] {
        let refused = story.issue(&story.sender, claiming(claims, jwt())).await;
        assert_eq!(
            problem_of(refused),
            (
                "claims".to_owned(),
                Problem::WrongType("an object or null for a JWT".into())
            )
        );
        assert!(
            story
                .issue(&story.sender, claiming(claims, opaque()))
                .await
                .is_ok()
        );
    }
    assert!(
        story
            .issue(&story.sender, claiming("{}", jwt()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn without_the_scopes_claim_a_caller_may_write_its_own_as_text() {
    let story = Story::new().await;
    story
        .set(&story.home, json!({"jwt_scopes_claim": false}))
        .await;
    let issued = story.issue(&story.sender, jwt()).await.unwrap();
    assert_eq!(payload_of(string_of(&issued)).get("scopes"), None);
    let issued = story
        .issue(&story.sender, claiming(r#"{"scopes":"read write"}"#, jwt()))
        .await
        .unwrap();
    assert_eq!(payload_of(string_of(&issued))["scopes"], "read write");
    for scopes in ["null", "[\"read\"]", "1"] {
        let refused = story
            .issue(
                &story.sender,
                claiming(&format!(r#"{{"scopes":{scopes}}}"#), jwt()),
            )
            .await;
        assert_eq!(problem_of(refused).0, "claims");
    }
}

#[tokio::test]
async fn a_jwt_that_no_proxy_would_carry_is_refused() {
    let story = Story::new().await;
    let mut scopes = Vec::new();
    for number in 0..150 {
        scopes.push(
            story
                .machine(&story.home, &format!("receiver {number}"), &[])
                .await,
        );
    }
    let popular = story
        .machine(&story.home, "popular", &scopes.iter().collect::<Vec<_>>())
        .await;
    let large = Value::from("x".repeat(8_000)).to_string();
    let request = |format| claiming(&format!(r#"{{"a":{large}}}"#), format);
    assert_eq!(
        problem_of(story.issue(&popular, request(jwt())).await).0,
        "claims"
    );
    assert!(story.issue(&popular, request(opaque())).await.is_ok());
    assert!(story.issue(&popular, jwt()).await.is_ok());
}

#[tokio::test]
async fn only_a_machine_gets_tokens() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let operator = story.operator_for(&story.home).await;
    for actor in [owner, operator] {
        let refused = story.authority.issue(&actor, &opaque()).await;
        assert!(
            matches!(refused, Err(Error::MachineKeyInvalid)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn the_operator_may_act_as_a_machine_of_the_instance_that_it_names() {
    let story = Story::new().await;
    let (home, abroad) = (
        story.instance_id(&story.home).await,
        story.instance_id(&story.abroad).await,
    );
    let act_as = async |instance, machine| {
        let operator = &story.operator;
        let actor = story
            .authority
            .operator_as_machine(operator, instance, machine);
        actor.await
    };
    let sender = act_as(home, story.sender.id).await.unwrap();
    assert_eq!(sender.machine_id(), Some(story.sender.id));
    assert_eq!(sender.name(), "operator");
    assert!(story.authority.issue(&sender, &opaque()).await.is_ok());
    for (instance, machine, noun) in [
        (home, story.stranger.id, "machine"),
        (abroad, story.sender.id, "machine"),
        (
            "ins_0000000000000000000000000zz".parse().unwrap(),
            story.sender.id,
            "instance",
        ),
    ] {
        let refused = act_as(instance, machine).await;
        assert!(
            matches!(&refused, Err(Error::NotFound { noun: found, .. }) if *found == noun),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn an_issue_that_began_before_a_change_sees_the_change() {
    let story = Story::new().await;
    let sender = story.actor(&story.sender.key).await;
    let owner = story.actor(&story.home).await;
    story
        .authority
        .delete_scope(&owner, story.sender.id, story.receiver.id)
        .await
        .unwrap();
    // `sender` still holds the machine as it was.
    for request in [opaque(), jwt()] {
        let issued = story.authority.issue(&sender, &request).await.unwrap();
        assert!(issued.body.scopes.is_empty());
    }
    story
        .authority
        .delete_machine(&owner, story.sender.id)
        .await
        .unwrap();
    for request in [opaque(), jwt()] {
        let refused = story.authority.issue(&sender, &request).await;
        assert!(
            matches!(refused, Err(Error::MachineKeyInvalid)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn claims_come_back_as_they_were_written() {
    let story = Story::new().await;
    for text in [
        r#"{"b":1.0,"a":[1e2,"\u0041"]}"#,
        "1.50",
        "[]",
        "false",
        "\"\"",
    ] {
        let (token, _) = story.token(&story.sender, claiming(text, opaque())).await;
        let verified = story.verify(&story.receiver.key, &token).await.unwrap();
        assert_eq!(verified.claims.unwrap().as_str(), text);
    }
    assert_eq!(claims("null"), None);
}

#[tokio::test]
async fn a_request_that_was_under_way_while_its_key_was_rotated_away_gets_nothing() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    story.issue(&story.sender, pooled(60)).await.unwrap();
    let mut current = story.sender.key.clone();
    for request in [opaque(), jwt(), pooled(60)] {
        // Authenticated, and then the rotation is answered first.
        let (actor, key) = {
            let actor = story.actor(&current).await;
            let rotated = story
                .authority
                .rotate_machine_key(&owner, story.sender.id, 0);
            (actor, secret_of(rotated.await.unwrap()))
        };
        let refused = story.authority.issue(&actor, &request).await;
        assert!(
            matches!(refused, Err(Error::MachineKeyInvalid)),
            "{refused:?}"
        );
        let actor = story.actor(&key).await;
        assert!(story.authority.issue(&actor, &request).await.is_ok());
        current = key;
    }
}
