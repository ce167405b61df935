//! Verifying for whoever presents a credential, in one operation of the store: it decides exactly as `authenticate` and `verify`
//! do one after the other.

use countersign_authority::{Accepts, Authority, Error, MachineUpdate};
use countersign_protocol::body::M2mToken;
use countersign_protocol::jwt::{JwtClaims, SigningKey, generate_rsa_key};
use countersign_protocol::limits::MAX_JWT_BYTES;
use countersign_protocol::secret::MAX_SECRET_LENGTH;
use serde_json::json;

use crate::back_end::Data;
use crate::support::sources::{HOUR, MINUTE, SECOND, START};
use crate::support::{Bot, Story, World, claiming, jwt, lasting, opaque, secret_of};

/// An authority at the beginning of its clock, and the credentials and tokens that somebody may present to it.
struct Scene {
    template: Data,
    credentials: Vec<(&'static str, String)>,
    tokens: Vec<(&'static str, String)>,
}

async fn in_two_steps(
    authority: &Authority,
    credential: &str,
    token: &str,
) -> Result<M2mToken, Error> {
    let actor = authority.authenticate(credential, Accepts::Any).await?;
    authority.verify(&actor, token).await
}

/// Both formats of a token.
async fn both(story: &Story, bot: &Bot, seconds: f64) -> [String; 2] {
    let opaque = story.token(bot, lasting(seconds, opaque())).await.0;
    [opaque, story.token(bot, lasting(seconds, jwt())).await.0]
}

impl Scene {
    async fn new() -> Self {
        let story = Story::new().await;
        let owner = story.actor(&story.home).await;
        let authority = &story.authority;
        let other = story.machine(&story.home, "other", &[]).await;
        let doomed = story
            .machine(&story.home, "doomed", &[&story.receiver])
            .await;
        let ended = story
            .machine(&story.home, "ended", &[&story.receiver])
            .await;
        let mut tokens = Vec::new();
        let mut add =
            |name, [opaque, jwt]: [String; 2]| tokens.extend([(name, opaque), (name, jwt)]);
        add("live", both(&story, &story.sender, 7200.0).await);
        add("short", both(&story, &story.sender, 60.0).await);
        add(
            "of another instance",
            both(&story, &story.stranger, 7200.0).await,
        );
        add("of a deleted machine", both(&story, &doomed, 7200.0).await);
        add("ended with all others", both(&story, &ended, 7200.0).await);
        let revoked = both(&story, &story.sender, 60.0).await;
        for token in &revoked {
            let id = story.verify(&story.home, token).await.unwrap().id;
            authority.revoke(&owner, id, None).await.unwrap();
        }
        add("revoked", revoked);
        authority.delete_machine(&owner, doomed.id).await.unwrap();
        authority.end_tokens(&owner, Some(ended.id)).await.unwrap();
        add(
            "issued after the end of all others",
            both(&story, &ended, 7200.0).await,
        );
        // A JWT whose scopes are those of now, and one with a claim that looks like scopes.
        story
            .set(&story.home, json!({"jwt_scopes_claim": false}))
            .await;
        let unscoped = story.token(&story.sender, lasting(7200.0, jwt())).await.0;
        let claims = format!(r#"{{"scopes":"{}"}}"#, other.id);
        let forged_scopes = claiming(&claims, lasting(7200.0, jwt()));
        let forged_scopes = story.token(&story.sender, forged_scopes).await.0;
        add("without the claim", [unscoped, forged_scopes]);
        story
            .set(&story.home, json!({"jwt_scopes_claim": true}))
            .await;
        let authority = &story.authority;
        authority.rotate_signing_key(&owner, true).await.unwrap();
        add(
            "of the next signing key",
            both(&story, &story.sender, 7200.0).await,
        );
        let live = tokens[0].1.clone();
        let signed = tokens[1].1.clone();
        let id = story.verify(&story.home, &signed).await.unwrap().id;
        let kid = owner.instance_id().first_signing_key();
        let forger = SigningKey::from_pkcs8(kid, &generate_rsa_key().unwrap()).unwrap();
        let forged = forger.sign(&JwtClaims {
            issuer: "https://auth.example.com",
            subject: story.sender.id,
            issued_at: START / 1000,
            expires_at: START / 1000 + 7200,
            id,
            scopes: None,
            custom: None,
        });
        tokens.extend([
            ("forged", forged.unwrap()),
            ("empty", String::new()),
            ("an id", id.to_string()),
            ("longer", format!("{live}x")),
            ("changed", live.replace("mt_", "mt_0")),
            ("cut", signed[..signed.len() - 5].to_owned()),
            (
                "without a signature",
                signed.rsplit_once('.').unwrap().0.to_owned() + ".",
            ),
            ("endless", "x".repeat(MAX_JWT_BYTES + 1)),
            ("a key", story.home.clone()),
            ("dots", "..".to_owned()),
        ]);

        let key = authority.create_instance_key(&owner, true).await.unwrap();
        authority
            .revoke_instance_key(&owner, key.info.id.as_str())
            .await
            .unwrap();
        let mut receivers = vec![story.receiver.key.clone()];
        for ttl in [60, 3600] {
            let rotated = authority
                .rotate_machine_key(&owner, story.receiver.id, ttl)
                .await;
            receivers.push(secret_of(rotated.unwrap()));
        }
        let gone = other.key.clone();
        let rotated = authority.rotate_machine_key(&owner, other.id, 0).await;
        let other = secret_of(rotated.unwrap());
        let [oldest, older, newest] = receivers.try_into().unwrap();
        let credentials = vec![
            ("instance key", story.home.clone()),
            ("revoked instance key", key.key.expose().to_owned()),
            ("instance key of another instance", story.abroad.clone()),
            ("oldest key of the receiver", oldest),
            ("older key of the receiver", older),
            ("newest key of the receiver", newest),
            ("key of the sender", story.sender.key.clone()),
            ("key of a machine out of scope", other),
            ("rotated key of a machine out of scope", gone),
            ("key of a deleted machine", doomed.key),
            (
                "machine key of another instance",
                story.stranger.key.clone(),
            ),
            ("unknown machine key", "ak_unknown".to_owned()),
            ("unknown instance key", "sk_test_unknown".to_owned()),
            (
                "endless machine key",
                format!("ak_{}", "x".repeat(MAX_SECRET_LENGTH)),
            ),
            ("a token", live),
            ("nothing", String::new()),
        ];
        Self {
            template: story.world.into_template(),
            credentials,
            tokens,
        }
    }

    /// Two authorities with the same past.
    async fn twins(&self) -> [World; 2] {
        [
            World::copy(&self.template, 5).await,
            World::copy(&self.template, 5).await,
        ]
    }
}

#[tokio::test]
async fn verify_presented_decides_as_authenticate_and_verify_do() {
    let scene = Scene::new().await;
    let [one, two] = scene.twins().await;
    let mut valid = 0;
    // Within the life of everything, with a key and tokens expired, and with everything expired.
    for millis in [0, MINUTE - 1, 1, 6 * SECOND, HOUR - MINUTE, HOUR, MINUTE] {
        for world in [&one, &two] {
            world.clock.advance(millis);
        }
        for (whose, credential) in &scene.credentials {
            for (what, token) in &scene.tokens {
                let expected = in_two_steps(&one.authority, credential, token).await;
                let answer = two.authority.verify_presented(credential, token).await;
                valid += u32::from(answer.is_ok());
                let (answer, expected) = (format!("{answer:?}"), format!("{expected:?}"));
                assert_eq!(answer, expected, "{what}, {whose}, after {millis}");
            }
        }
    }
    assert!(valid > 100, "{valid}");
    // Both count the same outcomes, and both note the same uses.
    assert_eq!(one.authority.counters(), two.authority.counters());
    let mut lists = Vec::new();
    for world in [&one, &two] {
        let owner = world.actor(&scene.credentials[0].1).await;
        let listed = world
            .authority
            .list_machines(&owner, Default::default())
            .await;
        for machine in listed.unwrap().into_body().data {
            lists.push(world.all_tokens(&owner, machine.id).await);
        }
    }
    let (first, second) = lists.split_at(lists.len() / 2);
    assert_eq!(first, second);
    assert!(first.iter().any(|list| list.total_count > 5));
}

#[tokio::test]
async fn verify_presented_reads_the_store_once() {
    let scene = Scene::new().await;
    let world = World::copy(&scene.template, 5).await;
    for (whose, credential) in &scene.credentials {
        let is_key = credential.starts_with("ak_") || credential.starts_with("sk_");
        let is_readable = is_key && credential.len() <= MAX_SECRET_LENGTH;
        for (what, token) in &scene.tokens {
            let before = world.store.calls();
            let _ = world.authority.verify_presented(credential, token).await;
            let calls = world.store.calls() - before;
            assert_eq!(calls, u64::from(is_readable), "{what}, {whose}");
        }
    }
}

#[tokio::test]
async fn verify_presented_counts_against_rate_limits_as_authenticate_does() {
    let scene = Scene::new().await;
    let key = |name| {
        &scene
            .credentials
            .iter()
            .find(|(whose, _)| *whose == name)
            .unwrap()
            .1
    };
    for limits in [
        json!({"rate_limit": {"requests": 7, "seconds": 10}}),
        json!({"machine_rate_limit": {"requests": 4, "seconds": 10}}),
        json!({
            "rate_limit": {"requests": 5, "seconds": 20},
            "machine_rate_limit": {"requests": 3, "seconds": 10},
        }),
    ] {
        let [one, two] = scene.twins().await;
        for world in [&one, &two] {
            world.set(key("instance key"), limits.clone()).await;
        }
        let mut limited = 0;
        for round in 0..40 {
            for name in [
                "newest key of the receiver",
                "older key of the receiver",
                "key of the sender",
                "instance key",
                "rotated key of a machine out of scope",
            ] {
                let (_, token) = &scene.tokens[(round * 7) % scene.tokens.len()];
                let expected = in_two_steps(&one.authority, key(name), token).await;
                let answer = two.authority.verify_presented(key(name), token).await;
                limited += u32::from(matches!(answer, Err(Error::RateLimited { .. })));
                let (answer, expected) = (format!("{answer:?}"), format!("{expected:?}"));
                assert_eq!(answer, expected, "{round}, {name}, {limits}");
            }
            for world in [&one, &two] {
                world.clock.advance(SECOND);
            }
        }
        assert!((20..=130).contains(&limited), "{limits}: {limited}");
        assert_eq!(one.authority.counters(), two.authority.counters());
    }
}

#[tokio::test]
async fn an_actor_whose_key_or_machine_changed_meanwhile_verifies_by_what_is_now() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let receiver = story.actor(&story.receiver.key).await;
    let (token, _) = story.token(&story.sender, opaque()).await;
    let (from, to) = (story.sender.id, story.receiver.id);
    let authority = &story.authority;
    let update = MachineUpdate {
        name: Some("new".into()),
        ..MachineUpdate::default()
    };
    authority.update_machine(&owner, to, update).await.unwrap();
    authority.delete_scope(&owner, from, to).await.unwrap();
    assert!(authority.verify(&receiver, &token).await.is_ok());
    // A key that has ended since it was presented tells nothing any more.
    authority.rotate_machine_key(&owner, to, 60).await.unwrap();
    assert!(authority.verify(&receiver, &token).await.is_ok());
    story.clock.advance(MINUTE);
    let refused = authority.verify(&receiver, &token).await;
    assert!(matches!(refused, Err(Error::MachineKeyInvalid)));
    let key = authority.create_instance_key(&owner, true).await.unwrap();
    let administrator = story.actor(key.key.expose()).await;
    assert!(authority.verify(&administrator, &token).await.is_ok());
    authority
        .revoke_instance_key(&owner, key.info.id.as_str())
        .await
        .unwrap();
    let refused = authority.verify(&administrator, &token).await;
    assert!(matches!(refused, Err(Error::InstanceKeyInvalid)));
}
