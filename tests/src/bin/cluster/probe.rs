//! What a running node answers about itself.

use std::time::Duration;

use basic_tests::harness::http::Client;
use basic_tests::harness::layout::NodeLayout;

/// How long one question may take; a paused agent never answers.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the nodes of one cluster.
pub(crate) struct Probe(Client);

/// What an agent says of its cluster.
pub(crate) struct View {
    /// The state that the agent sees itself in.
    pub(crate) own_state: String,
    /// How many members it sees active.
    pub(crate) active: usize,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self(Client::with_timeout(TIMEOUT))
    }

    /// Whether the agent takes traffic; if not, why.
    pub(crate) async fn ready(&self, node: &NodeLayout) -> Result<(), String> {
        self.success(&format!("http://{}/readyz", node.api())).await
    }

    /// Whether a request through the node's proxy is answered; if not, why.
    pub(crate) async fn answers(&self, node: &NodeLayout) -> Result<(), String> {
        self.success(&format!("http://{}/whoami", node.proxy()))
            .await
    }

    /// The members as this node sees them.
    pub(crate) async fn view(&self, node: &NodeLayout) -> Result<View, String> {
        let url = format!("http://{}/v1/members", node.api());
        let answer = self
            .0
            .get(&url)
            .await
            .map_err(|error| error.to_string())?
            .json();
        let members = answer["members"].as_array();
        let members = members.ok_or_else(|| format!("{url} answers no list of members"))?;
        let own = members.iter().find(|member| member["id"] == answer["self"]);
        let own_state = own.and_then(|member| member["state"].as_str());
        Ok(View {
            own_state: own_state.unwrap_or("unknown").to_owned(),
            active: members
                .iter()
                .filter(|member| member["state"] == "active")
                .count(),
        })
    }

    /// Whether the node is ready, sees `nodes` members active, and forwards.
    pub(crate) async fn up(&self, node: &NodeLayout, nodes: u16) -> Result<(), String> {
        self.ready(node).await?;
        let active = self.view(node).await?.active;
        if active != usize::from(nodes) {
            return Err(format!(
                "{} sees {active} of {nodes} members active",
                node.id()
            ));
        }
        self.answers(node).await
    }

    async fn success(&self, url: &str) -> Result<(), String> {
        let answer = self.0.get(url).await.map_err(|error| error.to_string())?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(format!(
                "{url} answers {}: {}",
                answer.status,
                answer.text().trim()
            )),
        }
    }
}
