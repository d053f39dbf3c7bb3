//! Follows the sentinels: asks all that the URL names for the primary, and listens to them.
//!
//! This runs once per process, on the control thread. `primary` draws the conclusions from the
//! answers; command connections and subscribers make the threads follow. A primary that is
//! replaced in good order stays alive, and for about ten seconds, until it is made a replica, it
//! accepts messages that are then discarded: only asking the sentinels reveals that.
//!
//! Messages are saved from the moment that a replica is chosen: that is said a tenth of a second
//! before it is promoted, and the sentinels notice a second later that it has been. So publishing
//! waits, and the chosen one is asked itself. If nobody listened to the sentinel that leads the
//! failover (it is not in the URL), the answers to the queries show it.
//!
//! A server that is connected to gets the password: so one sentinel's word is never enough.

use std::{cell::RefCell, convert::Infallible, pin::pin, rc::Rc, sync::Arc};

use fred::{
    prelude::{Config, Server},
    types::config::ServerConfig,
};
use redis_protocol::resp3::types::BytesFrame;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    destination::Destination,
    primary::{PrimaryElection, View},
};
use crate::{
    broker::redis::{
        net::{
            connection::{Connection, ConnectionError, refusal},
            connection_error::{address, told},
        },
        task::Task,
    },
    limits::{REDIS_CONNECT_DEADLINE, SENTINEL_INTERVAL, TAKEOVER_LOOK_MAX, TAKEOVER_LOOK_PAUSE},
    telemetry::seldom,
};

/// The events that sentinels publish when a replica was chosen, when it has taken over for the
/// sentinel that leads the failover, and when it has for the others.
const CHOSEN: &str = "+selected-slave";
const NEWS: [&str; 3] = [CHOSEN, "+promoted-slave", "+switch-master"];

/// The addresses of the sentinels, and the service that they are asked for.
struct Sentinels {
    /// With their credentials, which may be others than the primary's.
    config: Config,
    service: String,
}

/// The sentinels of a URL that names some.
fn sentinels(config: &Config) -> Option<Sentinels> {
    let ServerConfig::Sentinel { service_name, username, password, .. } = &config.server else {
        return None;
    };
    let (username, password) = (username.clone(), password.clone());
    let service = service_name.clone();
    Some(Sentinels { config: Config { username, password, ..config.clone() }, service })
}

/// The state shared by the tasks.
struct Follower {
    destination: Arc<Destination>,
    /// With the sentinels' credentials.
    config: Config,
    service: String,
    election: RefCell<PrimaryElection>,
    /// A replica that is to take over.
    chosen: RefCell<Option<Server>>,
    was_chosen: Notify,
}

/// Starts to follow; nothing where there are no sentinels.
pub(crate) fn follow(destination: &Arc<Destination>) -> Vec<Task> {
    let Some(Sentinels { config, service }) = sentinels(&destination.settings.config) else {
        return Vec::new();
    };
    let sentinels = config.server.hosts();
    let follower = Rc::new(Follower {
        destination: destination.clone(),
        config,
        service,
        election: RefCell::new(PrimaryElection::new(sentinels.len())),
        chosen: RefCell::default(),
        was_chosen: Notify::new(),
    });
    let mut tasks: Vec<Task> = (sentinels.into_iter().enumerate())
        .map(|(index, server)| Task::spawn(follower.clone().keep_asking(index, server)))
        .collect();
    tasks.push(Task::spawn(follower.watch_chosen()));
    tasks
}

impl Follower {
    /// Asks one sentinel again and again; never returns.
    async fn keep_asking(self: Rc<Self>, index: usize, server: Server) {
        loop {
            let error = match self.session(index, &server).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            tracing::debug!(%server, %error, "this sentinel is out of reach");
            self.update(index, None);
            self.lacks_primary(&format!("sentinel {}", told(&server, &error)));
            sleep(SENTINEL_INTERVAL).await;
        }
    }

    /// Says, as long as no primary is believed in, what this sentinel adds to that.
    fn lacks_primary(&self, what: &str) {
        if self.destination.primary.server().is_none() {
            let needed = self.election.borrow().needed();
            self.destination.health.out_of_reach(&format!(
                "no primary: {needed} of the sentinels in the URL have to name the same one; {what}"
            ));
        }
    }

    async fn session(&self, index: usize, server: &Server) -> Result<Infallible, ConnectionError> {
        let mut connection = Connection::open(&self.config, server).await?;
        // Confirmed or refused: a user without the right to listen asks all the same.
        connection.ask(&[["SUBSCRIBE"].as_slice(), &NEWS].concat()).await?;
        loop {
            let mut is_old = false;
            let view = self.ask(&mut connection, &mut is_old);
            let view = timeout(REDIS_CONNECT_DEADLINE, view).await;
            let view = view.unwrap_or(Err(ConnectionError::Silent))?;
            self.update(index, view.clone().ok());
            if !is_old {
                self.news(&mut connection).await?;
                // The others had time to say the same.
                let what = match &view {
                    Ok(view) => format!("names {}", address(&view.primary)),
                    Err(reason) => reason.clone(),
                };
                self.lacks_primary(&format!("sentinel {}", told(server, &what)));
            }
        }
    }

    /// The sentinel's report, or the reason why it names no primary. `is_old` if something has
    /// happened meanwhile.
    async fn ask(
        &self,
        connection: &mut Connection,
        is_old: &mut bool,
    ) -> Result<Result<View, String>, ConnectionError> {
        // Not the other way round: an epoch that is older than the primary is heard again, one that
        // is newer would make an old primary a new one.
        connection.command(&["SENTINEL", "MASTER", &self.service]);
        connection.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &self.service]);
        connection.command(&["SENTINEL", "REPLICAS", &self.service]);
        connection.flush().await?;
        let facts = self.answer(connection, is_old).await?;
        let primary = self.answer(connection, is_old).await?;
        let replicas = replicas_in(&self.answer(connection, is_old).await?);
        let view = config_epoch(&facts).zip(address_in(&primary));
        let view = view.map(|(epoch, primary)| View { epoch, primary, replicas });
        Ok(view.ok_or_else(|| match refusal(&facts) {
            Some(error) if error.starts_with("ERR unknown command") => {
                format!("this is no sentinel ({error})")
            }
            Some(error) => format!("it names no primary {:?} ({error})", self.service),
            None => format!("it names no primary {:?}", self.service),
        }))
    }

    async fn answer(
        &self,
        connection: &mut Connection,
        is_old: &mut bool,
    ) -> Result<BytesFrame, ConnectionError> {
        loop {
            match connection.next_frame()? {
                Some(BytesFrame::Push { data, .. }) => *is_old |= self.is_news(&data),
                Some(frame) => return Ok(frame),
                None => connection.read().await?,
            }
        }
    }

    /// Waits until it is time to ask again, or something has happened.
    async fn news(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let mut pause = pin!(sleep(SENTINEL_INTERVAL));
        loop {
            while let Some(frame) = connection.next_frame()? {
                if let BytesFrame::Push { data, .. } = frame
                    && self.is_news(&data)
                {
                    return Ok(());
                }
            }
            tokio::select! {
                read = connection.read() => read?,
                () = &mut pause => return Ok(()),
            }
        }
    }

    /// Whether a push says that something has happened to the primary.
    fn is_news(&self, push: &[BytesFrame]) -> bool {
        let mut texts = push.iter().map(text);
        let (Some(Some("message")), Some(Some(kind)), Some(Some(what))) =
            (texts.next(), texts.next(), texts.next())
        else {
            return false;
        };
        if kind == CHOSEN
            && let Some(chosen) = chosen_in(what, &self.service)
            && self.election.borrow().knows(&chosen)
            && self.destination.primary.is_foreseeable(self.destination.clock.now())
        {
            seldom!(info, "sentinels have chosen this replica to take over", server = %chosen);
            self.destination.primary.expect_takeover(self.destination.clock.now());
            *self.chosen.borrow_mut() = Some(chosen);
            self.was_chosen.notify_one();
        }
        true
    }

    /// Looks whether replicas that were chosen have taken over; never returns.
    async fn watch_chosen(self: Rc<Self>) {
        loop {
            self.was_chosen.notified().await;
            let chosen = self.chosen.take();
            if let Some(chosen) = chosen
                && timeout(TAKEOVER_LOOK_MAX, self.promoted(&chosen)).await.is_ok()
            {
                let primary = self.election.borrow_mut().promote_early(&chosen);
                self.go_to(primary);
            }
        }
    }

    /// Resolves when `server` says that it is a primary.
    async fn promoted(&self, server: &Server) {
        loop {
            if let Err(error) = self.look_at(server).await {
                // Also because sentinels have it drop its connections.
                tracing::debug!(%server, %error, "this replica does not tell its role");
            } else {
                return;
            }
            sleep(TAKEOVER_LOOK_PAUSE).await;
        }
    }

    async fn look_at(&self, server: &Server) -> Result<(), ConnectionError> {
        let mut connection = Connection::open(&self.destination.settings.config, server).await?;
        while !is_primary(&connection.ask(&["ROLE"]).await?) {
            sleep(TAKEOVER_LOOK_PAUSE).await;
        }
        Ok(())
    }

    fn update(&self, index: usize, view: Option<View>) {
        let primary = self.election.borrow_mut().update(index, view, self.destination.clock.now());
        self.go_to(primary);
    }

    fn go_to(&self, primary: Option<Server>) {
        let Some(primary) = primary else { return };
        seldom!(info, "this is the primary behind the sentinels", %primary);
        self.destination.primary.set(primary, self.destination.clock.now());
    }
}

fn text(frame: &BytesFrame) -> Option<&str> {
    match frame {
        BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. } => {
            std::str::from_utf8(data).ok()
        }
        _ => None,
    }
}

/// The fact of this name among a server's.
fn fact<'a>(facts: &'a BytesFrame, name: &str) -> Option<&'a str> {
    match facts {
        BytesFrame::Map { data, .. } => {
            text(data.iter().find(|(known, _)| text(known) == Some(name))?.1)
        }
        BytesFrame::Array { data, .. } => {
            let place = data.iter().position(|known| text(known) == Some(name))?;
            text(data.get(place + 1)?)
        }
        _ => None,
    }
}

/// `config-epoch` among a primary's facts.
fn config_epoch(facts: &BytesFrame) -> Option<u64> {
    fact(facts, "config-epoch")?.parse().ok()
}

/// The replicas in an answer.
fn replicas_in(answer: &BytesFrame) -> Vec<Server> {
    let BytesFrame::Array { data, .. } = answer else { return Vec::new() };
    let replica =
        |facts| Some(Server::from((fact(facts, "ip")?, fact(facts, "port")?.parse().ok()?)));
    data.iter().filter_map(replica).collect()
}

/// An address: host and port.
fn address_in(answer: &BytesFrame) -> Option<Server> {
    let BytesFrame::Array { data, .. } = answer else { return None };
    let [host, port] = data.as_slice() else { return None };
    Some(Server::from((text(host)?, text(port)?.parse().ok()?)))
}

/// The replica that was chosen for `service`: `slave NAME HOST PORT @ SERVICE HOST PORT`.
fn chosen_in(what: &str, service: &str) -> Option<Server> {
    let words: Vec<&str> = what.split(' ').collect();
    let ["slave", _, host, port, "@", name, ..] = words.as_slice() else { return None };
    (*name == service).then(|| Some(Server::from((*host, port.parse().ok()?))))?
}

pub(crate) fn is_primary(role: &BytesFrame) -> bool {
    let BytesFrame::Array { data, .. } = role else { return false };
    data.first().and_then(text) == Some("master")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{RedisTls, redis::net::options};

    fn parse(url: &str) -> Config {
        options::parse(url, &RedisTls::default()).unwrap()
    }

    #[test]
    fn sentinels_have_credentials_of_their_own() {
        let query = "node=b:2&sentinelServiceName=main&sentinelPassword=theirs";
        let config = parse(&format!("redis-sentinel://user:ours@a:1?{query}"));
        let Sentinels { config: theirs, service } = sentinels(&config).unwrap();
        assert_eq!((theirs.username, theirs.password.as_deref()), (None, Some("theirs")));
        assert_eq!((theirs.server.hosts().len(), service.as_str()), (2, "main"));
        assert!(sentinels(&parse("redis://a:1")).is_none());
    }

    fn blob(text: &str) -> BytesFrame {
        BytesFrame::BlobString { data: text.to_owned().into(), attributes: None }
    }

    fn array(texts: &[&str]) -> BytesFrame {
        let data = texts.iter().map(|text| blob(text)).collect();
        BytesFrame::Array { data, attributes: None }
    }

    #[test]
    fn a_sentinels_answers_are_read() {
        let map = [("name", "main"), ("config-epoch", "7"), ("port", "1")];
        let data = map.iter().map(|(name, fact)| (blob(name), blob(fact))).collect();
        assert_eq!(config_epoch(&BytesFrame::Map { data, attributes: None }), Some(7));
        assert_eq!(config_epoch(&array(&["port", "1", "config-epoch", "7"])), Some(7));
        for garbage in [&["config-epoch"][..], &["config-epoch", "x"], &["port", "1"]] {
            assert_eq!(config_epoch(&array(garbage)), None);
        }
        assert_eq!(address_in(&array(&["::1", "7"])), Some(Server::from(("::1", 7))));
        assert_eq!(address_in(&array(&["a", "70000"])), None);
        assert_eq!(address_in(&BytesFrame::Null), None);
        let replicas = vec![array(&["ip", "10.0.0.2", "port", "7"]), array(&["ip", "a"])];
        let replicas = BytesFrame::Array { data: replicas, attributes: None };
        assert_eq!(replicas_in(&replicas), [Server::from(("10.0.0.2", 7))]);
    }

    #[test]
    fn only_a_replica_of_ours_is_chosen() {
        let line = "slave 10.0.0.2:6380 10.0.0.2 6380 @ main 10.0.0.1 6379";
        assert_eq!(chosen_in(line, "main"), Some(Server::from(("10.0.0.2", 6380))));
        assert_eq!(chosen_in(line, "other"), None);
        for garbage in ["", "slave a b", "slave a b x @ main", "master main 10.0.0.1 6379"] {
            assert_eq!(chosen_in(garbage, "main"), None, "{garbage}");
        }
    }
}
