//! What Evener says of its models: the list, and one of them by its name.
use super::exchange::{End, Exchange};
use super::placed::Placed;
use super::request::{Ask, text};
use crate::dialect::{Dialect, FoundIn, Lister, Local, RefusalCode, model_body, models_body};
use crate::flow::{Happened, Refusal};
use crate::health::Class;
use crate::table::{Kind, PathPattern, RoutePlan, Table};
use bytes::Bytes;
use http::HeaderMap;

/// Who is to say what a model is. `/v1/models/{id}` is OpenAI's path and V1's, whose servers tell whether the model is
/// ready (KServe) or which of its versions are (TF-Serving).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Teller {
    Evener,
    Replica,
    /// A replica; Evener where the replica has no such path.
    Either,
}

impl Exchange<'_> {
    /// Lists the models that the client may use.
    pub(super) fn list_models(&self, table: &Table) -> Bytes {
        models_body(self.lister(), table.names_for(self.key()), self.proxy.started)
    }

    /// Where Evener's metrics are: not here, unless a route of this path says so.
    pub(super) fn no_metrics() -> Refusal {
        let message = "metrics of Evener are on its admin address; for those of a replica write a \
                       route with `path: /metrics`";
        Refusal::new(RefusalCode::NoRoute, message)
    }

    /// Does a route take this path, and not merely every path?
    pub(super) fn is_routed(&self, table: &Table) -> bool {
        let route = table.find_route(&Ask::new(self.session.req_header())).ok().flatten();
        let path = route.and_then(|route: &RoutePlan| route.path.as_ref());
        path.is_some_and(|path| *path != PathPattern::Prefix("/".to_owned()))
    }

    /// Answers what a model of a name of Evener's own is, where the client means Evener. Else a replica is asked.
    pub(super) async fn tell_model(
        &mut self,
        local: Option<Local>,
        table: &Table,
        placed: &Placed<'_>,
    ) -> Option<End> {
        let named = placed.facts.model.as_deref().filter(|name| table.model(name).is_some())?;
        let Some(FoundIn::Path(range)) = &placed.facts.found_in else { return None };
        if local != Some(Local::OpenAiModel) {
            return None;
        }
        let head = self.session.req_header();
        // Only clients of OpenAI encode the slashes of an id.
        let spelled = super::request::origin_form(head).get(range.clone()).unwrap_or_default();
        let encoded = spelled.to_ascii_lowercase().contains("%2f");
        let body = model_body(self.lister(), named, self.proxy.started);
        match teller(&head.headers, placed.model.plan.kind, encoded) {
            Teller::Evener => Some(self.answer_model(body).await),
            Teller::Replica => None,
            Teller::Either => {
                self.own_answer = Some(body);
                None
            }
        }
    }

    pub(super) async fn answer_model(&mut self, body: Bytes) -> End {
        self.record.course.note(Happened::Answers { code: 200, class: Class::Success });
        self.send(200, "application/json", body, &[]).await
    }

    fn lister(&self) -> Lister {
        if self.is_anthropic() { Lister::Anthropic } else { Lister::OpenAi }
    }

    fn is_anthropic(&self) -> bool {
        self.session.req_header().headers.contains_key("anthropic-version")
    }

    /// The dialect that the client reads errors in: Anthropic's clients list models on a path of OpenAI's.
    pub(super) fn error_dialect(&self) -> Dialect {
        let mixed = self.dialect() == Dialect::OpenAi && self.is_anthropic();
        if mixed { Dialect::Anthropic } else { self.dialect() }
    }
}

fn teller(headers: &HeaderMap, kind: Kind, encoded: bool) -> Teller {
    const SIGNS: [&str; 4] =
        ["anthropic-version", "x-stainless-lang", "openai-organization", "openai-project"];
    let sdk = SIGNS.iter().any(|name| headers.contains_key(*name))
        || text(headers, "user-agent").is_some_and(|agent| agent.starts_with("OpenAI/"));
    match kind {
        Kind::Predict => Teller::Replica,
        Kind::Llm => Teller::Evener,
        Kind::Auto | Kind::Raw if sdk || encoded => Teller::Evener,
        Kind::Auto | Kind::Raw => Teller::Either,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_tells_depends_on_the_client_and_the_kind_of_model() {
        let asks = |name: &'static str, kind, encoded| {
            let mut headers = HeaderMap::new();
            headers.insert(name, "x".parse().unwrap());
            teller(&headers, kind, encoded)
        };
        for (name, kind, encoded, expected) in [
            ("accept", Kind::Auto, false, Teller::Either),
            ("accept", Kind::Auto, true, Teller::Evener),
            ("accept", Kind::Llm, false, Teller::Evener),
            ("accept", Kind::Predict, true, Teller::Replica),
            ("x-stainless-lang", Kind::Auto, false, Teller::Evener),
            ("anthropic-version", Kind::Raw, false, Teller::Evener),
            ("x-stainless-lang", Kind::Predict, false, Teller::Replica),
        ] {
            assert_eq!(asks(name, kind, encoded), expected, "{name} {kind:?}");
        }
    }
}
