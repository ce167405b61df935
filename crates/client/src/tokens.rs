//! Tokens: create, list, update, revoke, verify (contract: M2M tokens).

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_protocol::body;
use countersign_protocol::ids::{MachineId, TokenId};
use countersign_protocol::limits::MAX_TOKENS_PAGE;
use countersign_protocol::request::{RevokeRequest, VerifyRequest};
use countersign_protocol::secret::{Secret, why_not_a_token};
use http::HeaderValue;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Number, Value};

use crate::Page;
use crate::client::{Client, bearer, date};
use crate::error::{Error, SettingsError};
use crate::request::Request;

/// What a sender presents: an opaque `mt_…` token or a JWT. `Debug` prints `[redacted]`; clones share the text.
#[derive(Clone)]
pub struct TokenString(Arc<(Secret, HeaderValue)>);

impl TokenString {
    /// Takes the text.
    ///
    /// # Errors
    /// [`SettingsError::Key`] if it is not a single word of printable characters, or is clearly something else, such as a key or the
    /// id of a token.
    pub fn new(text: impl Into<String>) -> Result<Self, SettingsError> {
        let text = text.into();
        if let Some(why) = why_not_a_token(&text) {
            return Err(SettingsError::Key(why));
        }
        let header = bearer(&text)?;
        Ok(Self(Arc::new((Secret::new(text), header))))
    }

    /// Shows the text. Every caller of this method is a place where a secret leaves its cover.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.0.expose()
    }

    /// The value of the `Authorization` header, `Bearer …`, marked as sensitive.
    #[must_use]
    pub fn authorization(&self) -> HeaderValue {
        self.0.1.clone()
    }
}

impl PartialEq for TokenString {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for TokenString {}

impl fmt::Debug for TokenString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// How a token is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TokenFormat {
    /// `mt_…`: each check asks the authority, and a revocation counts everywhere within seconds.
    #[default]
    Opaque,
    /// A signed JSON Web Token: receivers check it by themselves.
    Jwt,
}

/// What the authority says of a token, without its string.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Token {
    /// Its id. It names the token and never works as one.
    pub id: TokenId,
    /// The machine that it proves.
    pub subject: MachineId,
    /// The machines that it is for, as they were when it was made.
    pub scopes: Vec<MachineId>,
    /// What the machine put into it.
    pub claims: Option<Value>,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// The reason given by the first revocation.
    pub revocation_reason: Option<String>,
    /// Whether its life is over.
    pub is_expired: bool,
    /// When its life is over; `None` for never.
    pub expires_at: Option<SystemTime>,
    /// When it last verified.
    pub last_used_at: Option<SystemTime>,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was made, last verified or revoked, whichever is latest.
    pub updated_at: SystemTime,
}

/// A token with its string.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedToken {
    /// What the authority says of it.
    pub token: Token,
    /// What to present.
    pub string: TokenString,
    /// How long it had to live when the authority answered, by the authority's clock; `None` for ever.
    pub time_left: Option<Duration>,
}

/// What a new token is like.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewToken {
    #[serde(skip_serializing_if = "Option::is_none")]
    token_format: Option<TokenFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_until_expiration: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Arc<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_remaining_ttl_seconds: Option<u64>,
}

impl NewToken {
    /// An opaque token without claims that lives as long as the machine's tokens do, mostly one hour.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opaque or JWT.
    #[must_use]
    pub fn format(mut self, format: TokenFormat) -> Self {
        self.token_format = Some(format);
        self
    }

    /// Its life, a millisecond to ten years.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.seconds_until_expiration = seconds(lifetime);
        self
    }

    /// Claims of one's own, which receivers see; for a JWT an object.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "claims are made for the token, as those of `TokenChange`"
    )]
    pub fn claims(mut self, claims: Value) -> Self {
        self.claims = to_raw_value(&claims).ok().map(Arc::from);
        self
    }

    /// The same as JSON text, which is sent unchanged: numbers keep all their digits.
    #[must_use]
    pub fn claims_text(mut self, claims: Box<RawValue>) -> Self {
        self.claims = Some(Arc::from(claims));
        self
    }

    /// Takes a live token with equal claims and scopes that still has this long, in whole seconds, where there is one. For
    /// many processes of one machine that should share a token; JWTs are always new.
    #[must_use]
    pub fn reuse(mut self, min_time_left: Duration) -> Self {
        self.min_remaining_ttl_seconds = Some(min_time_left.as_secs());
        self
    }

    /// The same, and certainly new.
    pub(crate) fn without_reuse(&self) -> Self {
        Self {
            min_remaining_ttl_seconds: None,
            ..self.clone()
        }
    }
}

/// What changes about an opaque token; what is not named stays.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokenChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_until_expiration: Option<Number>,
}

impl TokenChange {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Other claims; `Value::Null` for none.
    #[must_use]
    pub fn claims(mut self, claims: Value) -> Self {
        self.claims = Some(claims);
        self
    }

    /// Another end: so long from now.
    #[must_use]
    pub fn time_left(mut self, time: Duration) -> Self {
        self.seconds_until_expiration = seconds(time);
        self
    }
}

/// Which tokens a list has.
#[derive(Clone, Debug)]
pub struct ListTokens {
    subject: MachineId,
    is_with_revoked: bool,
    is_with_expired: bool,
    format: Option<&'static str>,
}

impl ListTokens {
    /// The live opaque tokens of a machine.
    #[must_use]
    pub fn of(subject: MachineId) -> Self {
        Self {
            subject,
            is_with_revoked: false,
            is_with_expired: false,
            format: None,
        }
    }

    /// Also those that were revoked.
    #[must_use]
    pub fn with_revoked(mut self) -> Self {
        self.is_with_revoked = true;
        self
    }

    /// Also those whose life is over.
    #[must_use]
    pub fn with_expired(mut self) -> Self {
        self.is_with_expired = true;
        self
    }

    /// Only JWTs. An extension of Countersign.
    #[must_use]
    pub fn jwts(mut self) -> Self {
        self.format = Some("jwt");
        self
    }

    /// Opaque tokens and JWTs. An extension of Countersign.
    #[must_use]
    pub fn all_formats(mut self) -> Self {
        self.format = Some("all");
        self
    }

    pub(crate) fn path(&self, limit: i64, offset: u64) -> String {
        let mut query = vec![
            ("subject", self.subject.to_string()),
            ("limit", limit.to_string()),
            ("offset", offset.to_string()),
        ];
        if self.is_with_revoked {
            query.push(("revoked", "true".to_owned()));
        }
        if self.is_with_expired {
            query.push(("expired", "true".to_owned()));
        }
        if let Some(format) = self.format {
            query.push(("format", format.to_owned()));
        }
        crate::with_query("/m2m_tokens", &query)
    }
}

/// Tokens one after the other, newest first; pages are asked for when they are needed.
///
/// Tokens that are made meanwhile are not seen, and none comes twice. One that ends or is revoked meanwhile may make the list
/// step over another one.
#[derive(Debug)]
pub struct TokenList {
    client: Client,
    list: ListTokens,
    offset: u64,
    is_over: bool,
    page: VecDeque<Token>,
    seen: HashSet<TokenId>,
}

impl TokenList {
    /// The next token; `None` at the end. After an error the same page is asked for again.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn next(&mut self) -> Result<Option<Token>, Error> {
        while self.page.is_empty() && !self.is_over {
            let page = list_tokens(&self.list, MAX_TOKENS_PAGE, self.offset);
            let list = self.client.send(page).await?;
            let count = list.m2m_tokens.len();
            self.offset += count as u64;
            let total_count = u64::try_from(list.total_count).unwrap_or_default();
            self.is_over = count == 0 || self.offset >= total_count;
            let tokens = list.m2m_tokens.into_iter().map(Token::from);
            let seen = &mut self.seen;
            self.page
                .extend(tokens.filter(|token| seen.insert(token.id)));
        }
        Ok(self.page.pop_front())
    }
}

/// Issues a token to the machine that asks.
#[must_use]
pub fn create_token(new: &NewToken) -> Request<body::M2mToken> {
    Request::post("/m2m_tokens", new)
}

/// Lists tokens: at most `limit`, without the first `offset`.
#[must_use]
pub fn list_tokens(list: &ListTokens, limit: i64, offset: u64) -> Request<body::M2mTokenList> {
    Request::get(list.path(limit, offset))
}

/// Changes an opaque token.
#[must_use]
pub fn update_token(id: TokenId, change: &TokenChange) -> Request<body::M2mToken> {
    Request::patch(format!("/m2m_tokens/{id}"), change)
}

/// Revokes a token.
#[must_use]
pub fn revoke_token(id: TokenId, reason: Option<&str>) -> Request<body::M2mToken> {
    let body = RevokeRequest {
        revocation_reason: reason.map(Into::into),
    };
    Request::post(format!("/m2m_tokens/{id}/revoke"), &body)
}

/// Verifies a token.
#[must_use]
pub fn verify_token(token: &str) -> Request<body::M2mToken> {
    let body = VerifyRequest {
        token: Some(token.into()),
        secret: None,
    };
    Request::post("/m2m_tokens/verify", &body)
}

impl Client {
    /// Makes a token of the machine whose key this client has.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn create_token(&self, new: &NewToken) -> Result<IssuedToken, Error> {
        let answer = self.answer_to(create_token(new)).await?;
        let mut token: body::M2mToken = self.read(&answer)?;
        let string = token
            .token
            .take()
            .and_then(|string| TokenString::new(string.0).ok())
            .ok_or_else(|| {
                self.malformed("its answer to the creation of a token has none in it")
            })?;
        let token = Token::from(token);
        Ok(IssuedToken {
            time_left: token.expires_at.map(|end| {
                let whole = end.duration_since(token.created_at).unwrap_or_default();
                match new.min_remaining_ttl_seconds {
                    None => whole,
                    // It may have lived already: by the answer's date, and at least as long as was asked for.
                    Some(least) => {
                        let now = date(answer.headers()).unwrap_or(token.created_at);
                        let left = end.duration_since(now).unwrap_or_default();
                        left.max(Duration::from_secs(least)).min(whole)
                    }
                }
            }),
            token,
            string,
        })
    }

    /// A page of tokens: at most `limit` of them, 1 to 100, without the first `offset`.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn tokens_page(
        &self,
        list: &ListTokens,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Token>, Error> {
        let page = list_tokens(list, i64::from(limit), offset);
        let list = self.send(page).await?;
        Ok(Page {
            items: list.m2m_tokens.into_iter().map(Token::from).collect(),
            total_count: u64::try_from(list.total_count).unwrap_or_default(),
        })
    }

    /// All tokens that the list has, page by page.
    #[must_use]
    pub fn list_tokens(&self, list: ListTokens) -> TokenList {
        TokenList {
            client: self.clone(),
            list,
            offset: 0,
            is_over: false,
            page: VecDeque::new(),
            seen: HashSet::new(),
        }
    }

    /// Changes a live opaque token. An extension of Countersign.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn update_token(&self, id: TokenId, change: &TokenChange) -> Result<Token, Error> {
        Ok(self.send(update_token(id, change)).await?.into())
    }

    /// Revokes a token. The first revocation's reason stays.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn revoke_token(&self, id: TokenId, reason: Option<&str>) -> Result<Token, Error> {
        Ok(self.send(revoke_token(id, reason)).await?.into())
    }

    /// Asks whether a token is good for whoever this client's key is of.
    ///
    /// # Errors
    /// [`Error::Refused`] with `resource_not_found` where it is not; [`Error`], each kind of it.
    pub async fn verify_token(&self, token: &str) -> Result<Token, Error> {
        Ok(self.send(verify_token(token)).await?.into())
    }
}

/// Seconds, with a fraction only where there is one.
fn seconds(duration: Duration) -> Option<Number> {
    if duration.subsec_nanos() == 0 {
        Some(duration.as_secs().into())
    } else {
        Number::from_f64(duration.as_secs_f64())
    }
}

impl From<body::M2mToken> for Token {
    fn from(token: body::M2mToken) -> Self {
        Self {
            id: token.id,
            subject: token.subject,
            // The list was checked when it was read.
            scopes: token.scopes.iter().flat_map(str::parse).collect(),
            claims: token
                .claims
                .and_then(|claims| serde_json::from_str(claims.as_str()).ok()),
            is_revoked: token.revoked,
            revocation_reason: token.revocation_reason.map(|reason| reason.to_string()),
            is_expired: token.expired,
            expires_at: token.expiration.map(SystemTime::from),
            last_used_at: token.last_used_at.map(SystemTime::from),
            created_at: token.created_at.into(),
            updated_at: token.updated_at.into(),
        }
    }
}
