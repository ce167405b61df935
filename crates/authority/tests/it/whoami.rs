//! Who somebody is, by the credential that they present.

use countersign_authority::{Error, Refusal, WhoAmI};
use countersign_protocol::scopes::Scopes;
use serde_json::json;

use crate::support::sources::MINUTE;
use crate::support::{Story, jwt, opaque, refusal_of, secret_of};

fn told(refusal: Refusal) -> Option<(Refusal, bool)> {
    Some((refusal, true))
}

impl Story {
    /// Asks who somebody is. One operation of the store answers, whatever it is.
    async fn whoami(&self, credential: &str) -> Result<WhoAmI, Error> {
        let before = self.store.calls();
        let answer = self.authority.whoami(credential).await;
        assert_eq!(self.store.calls() - before, 1, "{credential}: {answer:?}");
        answer
    }
}

#[tokio::test]
async fn whoami_reads_the_store_once_for_credentials_of_any_instance() {
    let story = Story::new().await;
    for (key, name, bots) in [
        (&story.home, "home", &[&story.sender, &story.receiver][..]),
        (&story.abroad, "abroad", &[&story.stranger]),
    ] {
        let owner = story.actor(key).await;
        let instance_id = owner.instance_id();
        let expected = WhoAmI::Instance {
            instance_id,
            key_id: owner.name().parse().unwrap(),
            name: name.to_owned(),
        };
        assert_eq!(story.whoami(key).await.unwrap(), expected);
        for bot in bots {
            let machine = story.authority.machine(&owner, bot.id).await.unwrap();
            let may_call: Scopes = machine.scoped_machines.iter().map(|to| to.id).collect();
            let expected = WhoAmI::Machine {
                instance_id,
                machine_id: bot.id,
                name: machine.name,
                may_call,
            };
            assert_eq!(story.whoami(&bot.key).await.unwrap(), expected);
            for request in [opaque(), jwt()] {
                let issued = story.issue(bot, request).await.unwrap();
                let token = crate::support::string_of(&issued);
                let answer = story.whoami(token).await.unwrap();
                let WhoAmI::Token { token } = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!((token.id, token.subject), (issued.body.id, bot.id));
                assert_eq!(token.scopes, issued.body.scopes);
                assert!(token.token.is_none());
            }
        }
    }
}

#[tokio::test]
async fn a_bearer_learns_about_its_own_token_whoever_it_is_for() {
    let story = Story::new().await;
    for (bot, owner) in [
        (&story.sender, &story.home),
        (&story.stranger, &story.abroad),
    ] {
        for request in [opaque(), jwt()] {
            let (token, id) = story.token(bot, request).await;
            let own = story.own_token(&token).await.unwrap();
            assert_eq!(own.id, id);
            let owner = story.actor(owner).await;
            story.authority.revoke(&owner, id, None).await.unwrap();
            let refused = story.whoami(&token).await;
            assert_eq!(refusal_of(refused), told(Refusal::Revoked));
        }
    }
    let junk = story.authority.whoami("mt_junk").await;
    assert_eq!(refusal_of(junk), told(Refusal::Unknown));
}

#[tokio::test]
async fn a_credential_that_has_ended_is_refused_as_what_it_was() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let authority = &story.authority;
    let key = authority.create_instance_key(&owner, false).await.unwrap();
    let ended = authority.revoke_instance_key(&owner, key.info.id.as_str());
    ended.await.unwrap();
    let refused = story.whoami(key.key.expose()).await;
    assert!(matches!(refused, Err(Error::InstanceKeyInvalid)));
    let rotated = authority.rotate_machine_key(&owner, story.sender.id, 60);
    let newest = secret_of(rotated.await.unwrap());
    assert!(story.whoami(&story.sender.key).await.is_ok());
    let mut tokens = Vec::new();
    for request in [opaque(), jwt()] {
        let request = crate::support::lasting(30.0, request);
        let actor = story.actor(&newest).await;
        let issued = authority.issue(&actor, &request).await.unwrap();
        tokens.push(crate::support::string_of(&issued).to_owned());
    }
    story.clock.advance(MINUTE);
    let refused = story.whoami(&story.sender.key).await;
    assert!(matches!(refused, Err(Error::MachineKeyInvalid)));
    assert!(story.whoami(&newest).await.is_ok());
    for token in &tokens {
        let refused = story.whoami(token).await;
        assert_eq!(refusal_of(refused), told(Refusal::Expired));
    }
    for junk in ["", "x", "Bearer x", "sk", "SK_live_x", "mch_1"] {
        let refused = authority.whoami(junk).await;
        assert!(matches!(refused, Err(Error::CredentialMalformed)), "{junk}");
    }
}

#[tokio::test]
async fn whoami_counts_against_the_rate_limit_of_a_machine() {
    let story = Story::new().await;
    let limit = json!({"machine_rate_limit": {"requests": 1, "seconds": 60}});
    story.set(&story.home, limit).await;
    let (key, other) = (&story.sender.key, &story.receiver.key);
    assert!(story.whoami(key).await.is_ok());
    let refused = story.whoami(key).await;
    assert!(matches!(
        refused,
        Err(Error::RateLimited {
            retry_after_seconds: 60
        })
    ));
    assert!(story.whoami(other).await.is_ok());
}

#[tokio::test]
async fn presenting_a_token_counts_as_a_use() {
    let story = Story::new().await;
    let (token, _) = story.token(&story.sender, opaque()).await;
    story.clock.advance(MINUTE);
    story.whoami(&token).await.unwrap();
    let now = story.authority.now();
    story.clock.advance(MINUTE);
    let owner = story.actor(&story.home).await;
    let listed = story.all_tokens(&owner, story.sender.id).await;
    assert_eq!(listed.m2m_tokens[0].last_used_at, Some(now));
}
