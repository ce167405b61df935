//! Instances, their keys and settings, and the keys of the authority itself.

use std::sync::Arc;

use countersign_authority::{Accepts, Authority, AuthorityOptions, Error, MasterKey, Stage};
use countersign_protocol::change::ChangeKind;
use countersign_protocol::secret::has_checksum;
use countersign_store::Store as _;
use serde_json::json;

use crate::back_end::Data;
use crate::support::faulty::Fault;
use crate::support::sources::{ManualClock, SeededRandom};
use crate::support::{Story, World, problem_of, settings_update};

#[tokio::test]
async fn an_instance_begins_with_a_key_and_an_active_signing_key() {
    let world = World::new().await;
    for (is_live, prefix) in [(true, "sk_live_"), (false, "sk_test_")] {
        let created = world
            .authority
            .create_instance(&world.operator, "one", is_live)
            .await
            .unwrap();
        let key = created.key.expose();
        assert!(key.starts_with(prefix) && has_checksum(key));
        let owner = world.actor(key).await;
        let keys = world.authority.signing_keys(&owner).await.unwrap();
        assert_eq!((keys.len(), &*keys[0].state), (1, "active"));
    }
    let instances = world.authority.instances(&world.operator).await.unwrap();
    let defaults: Vec<_> = instances.iter().map(|found| found.is_default).collect();
    assert_eq!(defaults, [true, false]);
    for name in ["", &"x".repeat(256)] {
        let refused = world
            .authority
            .create_instance(&world.operator, name, true)
            .await;
        assert_eq!(problem_of(refused).0, "name");
    }
}

#[tokio::test]
async fn twenty_keys_live_at_once_and_the_last_one_cannot_be_revoked() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let authority = &story.authority;
    let mut created = Vec::new();
    for _ in 0..19 {
        created.push(authority.create_instance_key(&owner, true).await.unwrap());
    }
    let refused = authority.create_instance_key(&owner, true).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
    for key in &created {
        assert!(
            authority
                .authenticate(key.key.expose(), Accepts::Instance)
                .await
                .is_ok()
        );
        authority
            .revoke_instance_key(&owner, key.info.id.as_str())
            .await
            .unwrap();
        let refused = authority
            .authenticate(key.key.expose(), Accepts::Instance)
            .await;
        assert!(matches!(refused, Err(Error::InstanceKeyInvalid)));
        let again = authority
            .revoke_instance_key(&owner, key.info.id.as_str())
            .await;
        assert!(matches!(again, Err(Error::NotFound { .. })));
    }
    let last = authority.revoke_instance_key(&owner, owner.name()).await;
    assert!(matches!(last, Err(Error::Conflict(_))));
    let listed = authority.instance_keys(&owner).await.unwrap();
    assert_eq!(listed.len(), 20);
    assert_eq!(
        listed.iter().filter(|key| key.revoked_at.is_none()).count(),
        1
    );
}

#[tokio::test]
async fn many_changes_of_settings_at_a_time_are_all_made() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let revision = async || {
        let instance = story.store.instance(owner.instance_id()).await.unwrap();
        instance.unwrap().revision
    };
    let before = revision().await;
    let changes = [(); 40].map(|()| {
        let (authority, owner) = (story.authority.clone(), owner.clone());
        let change = settings_update(&json!({"max_jwt_ttl": 60})).unwrap();
        tokio::spawn(async move { authority.update_instance_settings(&owner, &change).await })
    });
    for change in changes {
        change.await.unwrap().unwrap();
    }
    assert_eq!(revision().await, before + 40);
    let updated = ChangeKind::InstanceUpdated;
    assert_eq!(story.count_logged(&story.home, updated).await, 40);
}

#[tokio::test]
async fn a_setting_of_the_wrong_type_is_refused_with_what_is_allowed_whatever_it_is_now() {
    let story = Story::new().await;
    let limit = json!({"requests": 5, "seconds": 5});
    let changed = json!({
        "issuer": "https://a.example",
        "jwt_scopes_claim": false,
        "machine_rate_limit": limit,
        "max_jwt_ttl": 60,
        "null_expiration": "never",
        "rate_limit": limit,
        "secret_reveal": false,
        "token_pooling": false,
    });
    let a_limit = r#"must be an object like {"requests":1000,"seconds":60}, or null for none"#;
    let allowed = [
        ("issuer", "must be a URL, or null for none"),
        ("jwt_scopes_claim", "must be true or false"),
        ("machine_rate_limit", a_limit),
        ("max_jwt_ttl", "must be a whole number of seconds"),
        ("null_expiration", r#"must be "default" or "never""#),
        ("rate_limit", a_limit),
        ("secret_reveal", "must be true or false"),
        ("token_pooling", "must be true or false"),
    ];
    let names: Vec<&String> = changed.as_object().expect("an object").keys().collect();
    assert_eq!(names, allowed.map(|(name, _)| name), "each setting is here");
    for _ in 0..2 {
        let owner = story.actor(&story.home).await;
        for (name, rule) in allowed {
            let refused = story.try_set(&owner, &json!({ name: [] })).await;
            let (refused, problem) = problem_of(refused);
            assert_eq!(
                (refused.as_str(), problem.to_string().as_str()),
                (name, rule)
            );
        }
        story.set(&story.home, changed.clone()).await;
    }
    let owner = story.actor(&story.home).await;
    let unknown = async |name: &str| {
        let refused = story.try_set(&owner, &json!({ name: 1 })).await;
        problem_of(refused).1.to_string()
    };
    let only = format!("only {}", allowed.map(|(name, _)| name).join(", "));
    assert_eq!(unknown("foo").await, format!("has no 'foo', {only}"));
    assert_eq!(
        unknown("sk_live_0123456789").await,
        format!("has no member of that name, {only}")
    );
}

#[tokio::test]
async fn settings_are_checked_one_by_one_and_nothing_changes_where_one_is_wrong() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let before = story.settings(&story.home).await;
    for (wrong, name) in [
        (json!({"unknown": 1}), "settings"),
        (
            json!({"token_pooling": false, "max_jwt_ttl": 0}),
            "max_jwt_ttl",
        ),
        (json!({"max_jwt_ttl": 315_360_001}), "max_jwt_ttl"),
        (json!({"max_jwt_ttl": "60"}), "max_jwt_ttl"),
        (json!({"null_expiration": "maybe"}), "null_expiration"),
        (json!({"secret_reveal": null}), "secret_reveal"),
        (json!({"issuer": "ftp://x"}), "issuer"),
        (json!({"issuer": "https://x/"}), "issuer"),
        (json!({"issuer": "https://é"}), "issuer"),
        (
            json!({"issuer": format!("https://{}", "x".repeat(255))}),
            "issuer",
        ),
        (
            json!({"rate_limit": {"requests": 0, "seconds": 1}}),
            "rate_limit",
        ),
        (
            json!({"rate_limit": {"requests": 1, "seconds": 0}}),
            "rate_limit",
        ),
        (json!({"rate_limit": {"requests": 1}}), "rate_limit"),
        (
            json!({"machine_rate_limit": {"requests": 1, "seconds": 86_401}}),
            "machine_rate_limit",
        ),
    ] {
        let refused = story.try_set(&owner, &wrong).await;
        assert_eq!(problem_of(refused).0, name, "{wrong}");
    }
    assert_eq!(story.settings(&story.home).await, before);
    assert!(
        !story
            .logged(&story.home)
            .await
            .contains(&"instance.updated")
    );
    story
        .set(
            &story.home,
            json!({"issuer": "https://x", "max_jwt_ttl": 60}),
        )
        .await;
    let story = Story {
        world: story.world.restart().await,
        ..story
    };
    let settings = story.settings(&story.home).await;
    assert_eq!(
        (settings.issuer.as_deref(), settings.max_jwt_ttl),
        (Some("https://x"), 60)
    );
}

#[tokio::test]
async fn two_changes_of_settings_at_one_time_both_stay() {
    let story = Story::new().await;
    // Both look at the settings before either has changed them, as two nodes may.
    story
        .store
        .fail_all("update_instance_settings", Fault::Wait);
    let changes = [
        json!({"max_jwt_ttl": 60}),
        json!({"issuer": "https://x"}),
        json!({"token_pooling": false}),
    ];
    let mut tasks = Vec::new();
    for change in changes {
        let (authority, owner) = (story.authority.clone(), story.actor(&story.home).await);
        let change = settings_update(&change).unwrap();
        tasks.push(tokio::spawn(async move {
            authority.update_instance_settings(&owner, &change).await
        }));
    }
    story.until_waiting(3).await;
    story.store.heal();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let settings = story.settings(&story.home).await;
    assert_eq!(
        (settings.max_jwt_ttl, settings.issuer.as_deref()),
        (60, Some("https://x"))
    );
    assert!(!settings.token_pooling);
}

#[tokio::test]
async fn an_authority_opens_with_its_own_master_key_only() {
    let (_data, store) = Data::new();
    let random = Arc::new(SeededRandom::new(1));
    let clock = Arc::new(ManualClock::default());
    let master = MasterKey::generate(&*random);
    let open = async |master: &MasterKey| {
        let options = AuthorityOptions::default();
        Authority::open(
            store.clone(),
            master,
            clock.clone(),
            random.clone(),
            options,
        )
        .await
    };
    assert!(matches!(open(&master).await, Err(Error::NotInitialized)));
    assert_eq!(Authority::stage(&store).await.unwrap(), Stage::Empty);
    Authority::initialize(&store, &master, &*clock, &*random)
        .await
        .unwrap();
    assert_eq!(Authority::stage(&store).await.unwrap(), Stage::Begun);
    let again = Authority::initialize(&store, &master, &*clock, &*random).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "never twice");
    let other = MasterKey::generate(&*random);
    assert!(matches!(open(&other).await, Err(Error::WrongMasterKey)));
    let (authority, operator) = open(&master).await.unwrap();
    authority
        .create_instance(&operator, "one", false)
        .await
        .unwrap();
    assert_eq!(Authority::stage(&store).await.unwrap(), Stage::Ready);
    let keys = store.into_store().data_keys().await.unwrap();
    assert!(Authority::try_master_key(&master, &keys).is_ok());
    let refused = Authority::try_master_key(&other, &keys);
    assert!(matches!(refused, Err(Error::WrongMasterKey)));
    let refused = Authority::try_master_key(&master, &[]);
    assert!(matches!(refused, Err(Error::NotInitialized)));
}
