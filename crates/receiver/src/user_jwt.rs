//! Users' JWTs, of any issuer whose keys are configured: RS256, ES256 or EdDSA (RFC 8725; OpenID Connect Core section 3.1.3.7).
//!
//! `iss` chooses the issuer and `kid` its key; the algorithm must be the one that the key is for. `exp` and `sub` are required. A JWT
//! that says whom it is for (`aud`) is not taken where no audience is configured, and an access token never is: it may have been
//! made for anybody. A JWT of the M2M category, or one whose subject is a machine, is never a user. What was found good is
//! remembered like M2M JWTs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_protocol::json::Object;
use countersign_protocol::jwt::M2M_CATEGORY;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::caller::{UserCaller, UserToken};
use crate::clock::{Moment, Time};
use crate::jwt::{Jwt, Times, take_text, text_of};
use crate::keys::Keys;
use crate::met::Met;
use crate::refusal::Reason;

/// Whose users are accepted, and which of their tokens.
///
/// An issuer makes tokens for others too, so say which are for this service: by [`audience`](Self::audience), or, where its tokens
/// have none, by [`authorized_party`](Self::authorized_party). Without either, each token of the issuer without `aud` is accepted.
///
/// ```
/// use countersign_receiver::UserIssuer;
///
/// let issuer = UserIssuer::new("https://clerk.example.com").authorized_party("https://app.example.com");
/// # let _ = issuer;
/// ```
#[derive(Clone, Debug)]
pub struct UserIssuer {
    pub(crate) issuer: String,
    pub(crate) jwks_url: String,
    audiences: BTreeSet<String>,
    takes_any_audience: bool,
    parties: BTreeSet<String>,
}

impl UserIssuer {
    /// Users whose JWTs have exactly this `iss`. The keys are at `{issuer}/.well-known/jwks.json`.
    #[must_use]
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            jwks_url: well_known(issuer),
            audiences: BTreeSet::new(),
            takes_any_audience: false,
            parties: BTreeSet::new(),
        }
    }

    /// Where the keys are: an `https` address, or one on this machine.
    #[must_use]
    pub fn jwks_url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.jwks_url);
        self
    }

    /// Wants this in `aud`, or another one that is given. Without any, a token that has `aud` is refused, and so is each whose
    /// header says that it is an access token (`typ` is `at+jwt`).
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        self.audiences.insert(audience.to_owned());
        self
    }

    /// Does not look at `aud` where no [`audience`](Self::audience) is given: tokens that the issuer made for other services are
    /// accepted. Access tokens (`at+jwt`) still are not.
    #[must_use]
    pub fn any_audience(mut self) -> Self {
        self.takes_any_audience = true;
        self
    }

    /// Wants this in `azp`, or another one that is given. Clerk writes the origin of the application there.
    #[must_use]
    pub fn authorized_party(mut self, party: &str) -> Self {
        self.parties.insert(party.to_owned());
        self
    }
}

/// The address that issuers use where they name no other.
pub(crate) fn well_known(issuer: &str) -> String {
    format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/'))
}

/// The issuers whose users are accepted.
pub(crate) struct Users {
    issuers: Vec<(UserIssuer, Arc<Keys>)>,
    time: Arc<Time>,
    met: Met<Checked>,
}

/// The claim that chooses the issuer.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
}

/// A JWT with a good signature.
#[derive(Clone)]
pub(crate) struct Checked {
    caller: UserCaller,
    times: Times,
    /// The place of its issuer, and the number of the key set that it was checked with.
    issuer: usize,
    set: u64,
}

impl Users {
    pub(crate) fn new(issuers: Vec<(UserIssuer, Arc<Keys>)>, time: Arc<Time>) -> Self {
        Self {
            issuers,
            time,
            met: Met::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// The same as [`recall`](Self::recall) where nobody needs to be waited for.
    pub(crate) fn known(&self, token: &str, now: Moment) -> Option<Result<UserCaller, Reason>> {
        let checked = self.met.get(token, now.monotonic)?;
        let (_, keys) = self.issuers.get(checked.issuer)?;
        let is_current = keys.fresh(now)? == checked.set;
        is_current.then(|| checked.times.check(now.wall).map(|()| checked.caller))
    }

    /// Decides about a JWT that was met before, and whose issuer has the same keys still.
    pub(crate) async fn recall(
        &self,
        token: &str,
        now: Moment,
    ) -> Option<Result<UserCaller, Reason>> {
        let checked = self.met.get(token, now.monotonic)?;
        let (_, keys) = self.issuers.get(checked.issuer)?;
        match keys.number(now).await {
            Ok(number) if number != checked.set => None,
            Ok(_) => Some(checked.times.check(now.wall).map(|()| checked.caller)),
            Err(reason) => Some(Err(reason)),
        }
    }

    /// Decides about a JWT.
    pub(crate) async fn check(&self, token: &str, jwt: Jwt<'_>) -> Result<UserCaller, Reason> {
        if jwt.category.as_deref() == Some(M2M_CATEGORY) {
            return Err(Reason::KindNotAllowed);
        }
        let payload = String::from_utf8(jwt.payload()?).map_err(|_| Reason::ClaimsMalformed)?;
        // Before the signature is checked no more is read than what tells whose it must be.
        let Named { iss: name } =
            serde_json::from_str(&payload).map_err(|_| Reason::ClaimsMalformed)?;
        let (place, (issuer, keys)) = self
            .issuers
            .iter()
            .enumerate()
            .find(|(_, (issuer, _))| issuer.issuer == name)
            .ok_or(Reason::IssuerUnknown)?;
        let is_known = matches!(jwt.algorithm.as_str(), "RS256" | "ES256" | "EdDSA");
        // An access token that says nothing of whom it is for may be any application's.
        if !is_known || (jwt.is_access_token && issuer.audiences.is_empty()) {
            return Err(Reason::KindNotAllowed);
        }
        let kid = jwt.kid.as_deref().ok_or(Reason::KindNotAllowed)?;
        let found = keys.set(Some(kid), self.time.now()).await?;
        let public = found.set.key(kid).ok_or(Reason::KeyUnknown)?;
        if public.algorithm() != jwt.algorithm {
            return Err(Reason::KindNotAllowed);
        }
        if !public.verifies(jwt.signed(), &jwt.signature()?) {
            return Err(Reason::SignatureInvalid);
        }
        let mut claims = Object::parse(payload.as_bytes()).map_err(|_| Reason::ClaimsMalformed)?;
        let mut user = issuer.read(&mut claims)?;
        user.payload = payload.as_str().into();
        let times = Times::take(&mut claims)?;
        user.expires_at = times.expires_at;
        let now = self.time.now();
        times.check(now.wall)?;
        let checked = Checked {
            caller: UserCaller(Arc::new(user)),
            times,
            issuer: place,
            set: found.number,
        };
        self.met.put(token, checked.clone(), now.monotonic);
        Ok(checked.caller)
    }
}

impl UserIssuer {
    /// Reads the claims but the times.
    pub(crate) fn read(&self, claims: &mut Object<'_>) -> Result<UserToken, Reason> {
        let audience = claims.take("aud").map(texts_of).transpose()?;
        let mut text = |name: &str| take_text(claims, name);
        let subject = text("sub")?
            .filter(|subject| !subject.is_empty())
            .ok_or(Reason::ClaimsMalformed)?;
        if subject.starts_with("mch_") {
            return Err(Reason::KindNotAllowed);
        }
        let is_meant = match audience {
            _ if self.audiences.is_empty() && self.takes_any_audience => true,
            None => self.audiences.is_empty(),
            Some(named) => named.iter().any(|it| self.audiences.contains(it)),
        };
        if !is_meant {
            return Err(Reason::AudienceWrong);
        }
        let party = text("azp")?;
        if !self.parties.is_empty() && !party.is_some_and(|it| self.parties.contains(it.as_ref())) {
            return Err(Reason::PartyNotAllowed);
        }
        // Clerk: a session whose tasks are not done yet counts as signed out.
        if text("sts")?.as_deref() == Some("pending") {
            return Err(Reason::SessionPending);
        }
        Ok(UserToken {
            issuer: self.issuer.as_str().into(),
            subject: subject.into(),
            session_id: text("sid")?.map(Into::into),
            expires_at: countersign_protocol::time::Timestamp::EPOCH,
            payload: Box::default(),
        })
    }
}

/// A text or a list of texts (RFC 7519 section 4.1.3).
fn texts_of(value: &RawValue) -> Result<Vec<String>, Reason> {
    if value.get().starts_with('[') {
        serde_json::from_str(value.get()).map_err(|_| Reason::ClaimsMalformed)
    } else {
        text_of(value).map(|text| vec![text.into_owned()])
    }
}
