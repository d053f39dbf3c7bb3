//! Clients with tokens: held to their rights, told in time, renewed in place, ended.
//!
//! A token is verified elsewhere; here its rights are kept beside the client, and asked when the
//! client joins a channel or publishes.

use std::time::Duration;

use crate::{
    broker::{Principal, PublisherClass},
    channel::ChannelName,
    clock::Millis,
    conn::{
        client_rights::{Credential, VerifiedToken},
        client_state::ClientState,
        command_queue::{ClientCommand, ClientMessage},
        table::{ConnectionTable, entry},
        token_deadlines::TokenAction,
        v1::events::{Code, ErrorEvent, ServerEvent},
    },
    hub::Key,
    limits::TOKEN_JWKS_WAIT,
    metrics::Limit,
    token::TokenError,
    ws::close::CloseReason,
};

impl ConnectionTable {
    /// The clients whose tokens have this `sub`.
    pub fn clients_of_subject(&self, sub: &str) -> Vec<Key> {
        self.rights.of_subject(sub)
    }

    /// The clients whose tokens have this `jti`.
    pub fn clients_of_token_id(&self, jti: &str) -> Vec<Key> {
        self.rights.of_id(jti)
    }

    /// A client has shown a credential, in place of an earlier one.
    pub(super) fn set_credential(&mut self, key: Key, credential: Credential) {
        let (is_told, is_open, publisher) = match entry(&mut self.entries, key) {
            Some(client) => {
                let is_open = client.state() == ClientState::Open;
                (client.encoding.is_v1(), is_open, &mut client.publisher)
            }
            None => match self.orphans.get_mut(&key) {
                // The commands that it has left behind wait for this.
                Some(orphan) => (true, false, &mut orphan.publisher),
                None => return,
            },
        };
        if let Credential::Token(token) = &credential {
            // A client that can show another token is listened to in any case.
            let may_publish = is_told || !token.rights.publish.is_empty();
            let is_on = self.settings.client_publish.is_on() && may_publish;
            *publisher = is_on.then_some(PublisherClass::Token);
        }
        if let Some(first) = self.rights.set(key, credential, self.now, is_told)
            && is_open
        {
            self.schedule(key, first);
        }
    }

    /// The principal of a client's publications, if they may be published at all.
    pub(super) fn principal(&mut self, key: Key) -> Option<Principal> {
        let publisher = match entry(&mut self.entries, key) {
            Some(client) => client.publisher,
            None => self.orphans.get(&key)?.publisher,
        };
        match publisher? {
            PublisherClass::Api => Some(Principal::Api),
            PublisherClass::Token => self.rights.principal(key),
            PublisherClass::Anonymous => Some(Principal::Anonymous),
        }
    }

    /// Whether a client may listen to `channel`.
    pub(super) fn may_listen(&self, key: Key, channel: &ChannelName) -> bool {
        let channel = channel.as_str();
        self.settings.public_channels.covers(channel) || self.rights.may_listen(key, channel)
    }

    /// Gives `command` back if the client has the right to it now; else it is refused. A client
    /// that has left keeps its rights as long as it has commands.
    pub(super) fn permitted(&mut self, key: Key, command: ClientCommand) -> Option<ClientCommand> {
        match command {
            ClientCommand::Publish(message) => self.permitted_message(key, message),
            ClientCommand::Subscribe(wanted) if !self.may_listen(key, &wanted.channel) => {
                let message = "the channel is private, and no token that was shown covers it";
                self.send_error(key, ErrorEvent::about(&wanted.channel, Code::Forbidden, message));
                None
            }
            other => Some(other),
        }
    }

    fn permitted_message(&mut self, key: Key, message: ClientMessage) -> Option<ClientCommand> {
        let principal = self.principal(key);
        let covers = |channel: &ChannelName| {
            let rights = self.rights.of_token(key);
            rights.is_some_and(|rights| rights.publish.covers(channel.as_str()))
        };
        let why = match principal {
            None => "this client may not publish: see --client-publish and --api-token",
            Some(Principal::Subject(_)) if !covers(&message.channel) => {
                "the token does not cover the channel"
            }
            Some(publisher) => {
                return Some(ClientCommand::Publish(ClientMessage { publisher, ..message }));
            }
        };
        let ClientMessage { channel, id, .. } = message;
        self.refuse_publication(key, &channel, id.map(|id| id.as_str().to_owned()), why);
        None
    }

    /// A client's message is not published, for want of a right.
    fn refuse_publication(
        &mut self,
        key: Key,
        channel: &ChannelName,
        id: Option<String>,
        why: &'static str,
    ) {
        self.metrics.client_messages_dropped.add(1);
        if entry(&mut self.entries, key).is_some_and(|entry| entry.encoding.is_v1()) {
            let error_event = ErrorEvent::about(channel, Code::Forbidden, why);
            self.send_error(key, ErrorEvent { id, ..error_event });
        }
    }

    /// A token that a client has shown was verified, or refused: then an earlier one counts on. Of
    /// a client that goes or is gone it counts for the commands that it has said behind it.
    pub fn renewed(&mut self, key: Key, verified: Result<VerifiedToken, TokenError>, now: Millis) {
        self.now = self.now.max(now);
        let is_open =
            entry(&mut self.entries, key).is_some_and(|entry| entry.state() == ClientState::Open);
        let is_refused = verified.as_ref().is_err_and(TokenError::is_charged);
        match verified {
            Ok(token) => {
                let expires_in_ms = token.expires.map(|expires| millis(expires - self.now));
                self.set_credential(key, Credential::Token(token));
                if is_open {
                    self.send_event(key, &ServerEvent::Token { expires_in_ms });
                    self.leave_uncovered(key);
                }
            }
            Err(_) if !is_open => {}
            Err(error) => {
                let code = if error.is_unavailable() {
                    Code::KeysUnavailable
                } else if error.is_kept_out() {
                    Code::Forbidden
                } else {
                    Code::BadToken
                };
                let message = error.hint().into();
                self.send_error(key, ErrorEvent { code, message, channel: None, id: None });
                if is_refused {
                    let guessed = self.token_guesses.bad_token(key, self.now);
                    self.hold_to_limit(key, guessed, Limit::Credentials);
                }
            }
        }
        self.handle_hub_events();
        // Last: the client may have left over what it was told.
        if is_refused {
            self.pause_commands(key);
        }
    }

    /// Ends the subscriptions that a client has no right to any more.
    fn leave_uncovered(&mut self, key: Key) {
        let mut uncovered: Vec<_> = self.hub.channels(key).cloned().collect();
        uncovered.retain(|channel| !self.may_listen(key, channel));
        for channel in uncovered {
            self.unsubscribe(key, &channel, Some(Code::Forbidden));
        }
    }

    /// Does what is due for a client's token; when to look again. None: the client goes.
    pub(super) fn on_token_due(&mut self, key: Key) -> Option<Option<Millis>> {
        match self.rights.on_deadline(key, self.now) {
            None => Some(None),
            Some(TokenAction::Wait(until)) => Some(Some(until)),
            Some(TokenAction::Remind(left, until)) => {
                self.send_event(key, &ServerEvent::TokenExpiring { in_ms: millis(left) });
                Some(Some(until))
            }
            Some(TokenAction::End) => {
                // Its next token may wait for the issuer.
                let until = self.now + TOKEN_JWKS_WAIT;
                if self.is_renewing(key) && self.rights.postpone_end(key, until) {
                    return Some(Some(until));
                }
                self.close(key, CloseReason::TokenExpired);
                None
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
