#!/usr/bin/env python3
"""Makes the boards beside it: `python3 conf/grafana/make.py`. tests/peers/test_boards.py checks that they are up to
date.

A board is a list of rows, a row a list of panels; places and ids follow from their order. The numbers of queries are
Evener's metrics (conf/README.md); each panel's description says what to do about what it shows.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
# What failed by no fault of the client: as in ../prometheus/rules.yml.
FAILURES = 'outcome=~"server_error|overloaded|timeout|connect_failure|reset"'
REFUSALS = 'outcome="refused", code=~"5.."'
# In the order of the numbers that stand for them.
REPLICA_STATES = {"healthy": "green", "starting": "blue", "probation": "yellow", "draining": "purple",
                  "ejected": "orange", "unhealthy": "red"}
CANARY_STATES = {"idle": "text", "collecting": "blue", "passing": "green", "failing": "orange", "paused": "yellow",
                 "promoted": "dark-green", "rolled_back": "red", "undecided": "purple"}


# Queries

def rate(metric, where):
    return f"rate({metric}{{{where}}}[$__rate_interval])"


def requests(by, where):
    return f"sum by ({by}) ({rate('evener_requests_total', where)})"


def failed(by, where):
    """The part of the requests that failed; 0 where none did."""
    total = requests(by, where)
    failures = (f"sum by ({by}) ({rate('evener_requests_total', f'{where}, {FAILURES}')}"
                f" or {rate('evener_requests_total', f'{where}, {REFUSALS}')})")
    return f"({failures} or 0 * {total}) / {total}"


def quantile(q, metric, by, where):
    return f"histogram_quantile({q}, sum by ({by}, le) ({rate(metric + '_bucket', where)}))"


def state_number(metric, states, by, where):
    """The number of the present state, counted from 1."""
    each = (f'{metric}{{{where}, state="{state}"}} * {number}' for number, state in enumerate(states, 1))
    return f"max by ({by}) ({' or '.join(each)})"


def happened(metric, where, since="1m"):
    """Counters above what they were: one that appeared meanwhile rose from 0."""
    series = f"{metric}{{{where}}}"
    return f"{series} > ({series} offset {since} or {series} * 0)"


# Panels

def thresholds(*steps):
    """`(from, color)`, the first from nothing."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in steps]}


def mappings(words):
    """`{number: (text, color)}`."""
    options = {str(number): {"color": color, "index": index, "text": text}
               for index, (number, (text, color)) in enumerate(words.items())}
    return [{"type": "value", "options": options}]


def numbered(states):
    return mappings({number: (state, color) for number, (state, color) in enumerate(states.items(), 1)})


def targets(queries, **more):
    return [{"datasource": SOURCE, "editorMode": "code", "expr": expr, "legendFormat": legend, "range": True,
             "refId": chr(ord("A") + i)} | more for i, (expr, legend) in enumerate(queries)]


def panel(kind, title, description, queries, *, width, height=8, unit="short", defaults=None, options=None, **more):
    return {
        "type": kind, "title": title, "description": description, "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit} | (defaults or {}), "overrides": []},
        "options": options or {}, "targets": targets(queries), "size": (width, height),
    } | more


def graph(title, description, *queries, width=12, unit="short", stack=False, line=None, bottom=0, top=None, **more):
    """Lines over time. `line`: where it gets bad; `bottom`, `top`: the ends of the axis."""
    custom = {"fillOpacity": 40 if stack else 8, "lineWidth": 1, "showPoints": "never", "spanNulls": False,
              "stacking": {"group": "A", "mode": "normal" if stack else "none"}}
    defaults = {"custom": custom, "thresholds": thresholds((None, "green"))}
    if line is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        defaults["thresholds"] = thresholds((None, "transparent"), (line, "red"))
    defaults |= {end: value for end, value in (("min", bottom), ("max", top)) if value is not None}
    legend = {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True,
              "sortBy": "Max", "sortDesc": True}
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel("timeseries", title, description, queries, width=width, unit=unit, defaults=defaults, options=options,
                 **more)


def stat(title, description, *queries, width=4, unit="short", steps=((None, "green"),), words=None, text="auto"):
    """The present number."""
    defaults = {"thresholds": thresholds(*steps), "mappings": mappings(words) if words else []}
    options = {"colorMode": "background" if len(steps) > 1 or words else "value", "graphMode": "none",
               "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "textMode": text}
    return panel("stat", title, description, queries, width=width, height=4, unit=unit, defaults=defaults,
                 options=options)


def states(title, description, query, legend, of, *, width=24, height=8):
    """Which state when, as colored bars."""
    defaults = {"custom": {"fillOpacity": 75, "lineWidth": 0}, "mappings": numbered(of),
                "thresholds": thresholds((None, "text"))}
    options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "mergeValues": True,
               "rowHeight": 0.85, "showValue": "auto", "tooltip": {"mode": "single", "sort": "none"}}
    return panel("state-timeline", title, description, [(query, legend)], width=width, height=height,
                 defaults=defaults, options=options)


def heatmap(title, description, query, *, width=12, unit="s"):
    options = {"calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
               "legend": {"show": True}, "tooltip": {"show": True, "yHistogram": False},
               "yAxis": {"axisPlacement": "left", "unit": unit}}
    made = panel("heatmap", title, description, [(query, "{{le}}")], width=width, options=options)
    return made | {"targets": targets([(query, "{{le}}")], format="heatmap")}


def table(title, description, label, columns, *, sort, links=(), height=10):
    """One row for each value of a label. `columns`: `(name, query, unit, limits, words)`."""
    queries = [(query, "") for _, query, *_ in columns]
    made = panel("table", title, description, queries, width=24, height=height,
                 defaults={"custom": {"align": "auto", "filterable": True}, "thresholds": thresholds((None, "text"))},
                 options={"showHeader": True, "sortBy": [{"desc": True, "displayName": sort}]})
    made["targets"] = targets(queries, format="table", instant=True, range=False)
    shown = {f"Value #{chr(ord('A') + i)}": column[0] for i, column in enumerate(columns)}
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": shown}},
    ]
    overrides = []
    if links:
        properties = [{"id": "links", "value": list(links)}]
        overrides.append({"matcher": {"id": "byName", "options": label}, "properties": properties})
    for name, _, unit, limits, words in columns:
        properties = [{"id": "unit", "value": unit}]
        if limits:
            properties += [{"id": "thresholds", "value": thresholds(*limits)},
                           {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}}]
        if words:
            properties += [{"id": "mappings", "value": words},
                           {"id": "custom.cellOptions", "value": {"type": "color-text"}}]
        overrides.append({"matcher": {"id": "byName", "options": name}, "properties": properties})
    made["fieldConfig"]["overrides"] = overrides
    return made


# Boards

def variable(name, query, label, *, several):
    made = {"type": "query", "name": name, "label": label, "datasource": SOURCE, "definition": query,
            "query": {"query": query, "refId": f"variable-{name}"}, "refresh": 2, "sort": 7,
            "multi": several, "includeAll": several}
    if several:
        made |= {"allValue": ".*", "current": {"selected": True, "text": "All", "value": "$__all"}}
    return made


def mark(name, color, expr, text):
    return {"name": name, "datasource": SOURCE, "enable": True, "iconColor": color, "expr": expr, "step": "60s",
            "titleFormat": name, "textFormat": text, "tagKeys": ""}


INSTANCE = variable("instance", "label_values(evener_build_info, instance)", "Evener", several=True)
AT = 'instance=~"$instance"'


def marks(where):
    """What happened, as far as Prometheus can tell: each event once, in the minute it came."""
    # Generation 1 is the start.
    generation = f"evener_config_generation{{{AT}}}"
    applied = f"{generation} > ({generation} offset 1m or {generation} * 0 + 1)"
    return [
        mark("Reload applied", "blue", applied, "{{instance}}"),
        mark("Rolled back", "red", happened("evener_rollbacks_total", where), "{{model}}: {{check}} ({{instance}})"),
        mark("Promoted", "green", happened("evener_promotions_total", where), "{{model}} ({{instance}})"),
        mark("Ejected", "orange", happened("evener_ejections_total", where),
             "{{model}}/{{version}} {{replica}}: {{cause}} ({{instance}})"),
    ]


def board(uid, title, description, variables, rows, where):
    """Lays the panels out: each row from left to right, as wide as they say."""
    panels, y = [], 0
    for name, row in rows:
        panels.append({"type": "row", "title": name, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        x, y, tallest = 0, y + 1, 0
        for made in row:
            width, height = made.pop("size")
            if x + width > 24:
                x, y, tallest = 0, y + tallest, 0
            made["gridPos"] = {"x": x, "y": y, "w": width, "h": height}
            x, tallest = x + width, max(tallest, height)
            panels.append(made)
        y += tallest
    source = {"type": "datasource", "name": "DS_PROMETHEUS", "label": "Prometheus", "query": "prometheus"}
    to_others = {"type": "dashboards", "title": "Evener", "tags": ["evener"], "asDropdown": False, "keepTime": True,
                 "includeVars": True, "targetBlank": False, "icon": "external link"}
    return {
        "uid": uid, "title": title, "description": description, "tags": ["evener"], "schemaVersion": 39,
        "editable": True, "graphTooltip": 1, "refresh": "30s", "timezone": "",
        "time": {"from": "now-1h", "to": "now"}, "links": [to_others],
        "annotations": {"list": marks(where)}, "templating": {"list": [source, *variables]},
        "panels": [{"id": number} | made for number, made in enumerate(panels, 1)],
    }


GOOD_BELOW_ONE = ((None, "green"), (1, "red"))
FAILING = ((None, "green"), (0.01, "yellow"), (0.05, "red"))


def overview():
    named = f'{AT}, model!=""'
    healthy = f'sum by (model) (evener_replica_state{{{AT}, state="healthy"}})'
    eligible = f'sum by (instance, model) (evener_replica_state{{{AT}, state=~"healthy|starting"}})'
    link = {"title": "Evener: model", "url": "/d/evener-model?${DS_PROMETHEUS:queryparam}&${instance:queryparam}"
            "&var-model=${__data.fields.model}&${__url_time_range}"}
    health = [
        stat("Evener processes", "That Prometheus reads now. Fewer than you run: alert EvenerDown.",
             (f"count(evener_build_info{{{AT}}})", ""), steps=((None, "red"), (1, "green"))),
        stat("Models without a replica", "None is eligible, at one Evener at least. `evener status` says why; alert "
             "EvenerNoReplica.",
             (f"count(count by (model) ({eligible} == 0)) or vector(0)", ""), steps=GOOD_BELOW_ONE),
        stat("Versions failing open", "Served by replicas that are known to be bad: alert EvenerFailOpen.",
             (f"sum(evener_fail_open{{{AT}}})", ""), steps=GOOD_BELOW_ONE),
        stat("Replicas out", "Unhealthy, ejected or on probation. See the board Evener: replicas for which.",
             (f'sum(evener_replica_state{{{AT}, state=~"unhealthy|ejected|probation"}})', ""),
             steps=((None, "green"), (1, "orange"))),
        stat("Canaries that wait", "Paused, undecided or failing: `evener canary status MODEL`, then resume, promote "
             "or abort.",
             (f'sum(evener_canary_state{{{AT}, state=~"paused|undecided|failing"}}) or vector(0)', ""),
             steps=((None, "green"), (1, "orange"))),
        stat("Last reload", "Rejected: the configuration before it serves on. `evener check` says what is wrong.",
             (f"min(evener_config_last_reload_successful{{{AT}}})", ""),
             words={0: ("rejected", "red"), 1: ("applied", "green")}),
    ]
    columns = [
        ("Requests/s", requests("model", named), "reqps", None, None),
        ("Failed", failed("model", named), "percentunit", FAILING, None),
        ("p50", quantile(0.5, "evener_request_duration_seconds", "model", AT), "s", None, None),
        ("p95", quantile(0.95, "evener_request_duration_seconds", "model", AT), "s", None, None),
        ("p99", quantile(0.99, "evener_request_duration_seconds", "model", AT), "s", None, None),
        ("First byte p95", quantile(0.95, "evener_first_byte_seconds", "model", AT), "s", None, None),
        ("In flight", f"sum by (model) (evener_in_flight{{{AT}}})", "short", None, None),
        ("Healthy replicas", healthy, "short", ((None, "red"), (1, "text")), None),
    ]
    models = [
        table("Models, worst first", "Click a model for its versions.", "model", columns, sort="Failed", links=[link]),
        graph("Problems", "What `evener status` lists, by model (none: Evener itself) and kind. conf/README.md, Problems, "
              "says what each means.",
              (f'evener_problems{{{AT}, severity!="notice"}}', "{{instance}} {{model}} {{code}}"), width=24),
        graph("Requests", "By model. A sudden end is upstream of Evener, or alert EvenerDown.",
              (requests("model", named), "{{model}}"), unit="reqps"),
        graph("Failed", "By no fault of the client: replicas failed or were full, or Evener refused with a 5xx. "
              "Above the line: alert EvenerErrors.",
              (failed("model", named), "{{model}}"), unit="percentunit", line=0.05),
        graph("Latency p95", "From the first byte of a request to the last of its answer. Compare with the marks: what "
              "changed when it rose?",
              (quantile(0.95, "evener_request_duration_seconds", "model", AT), "{{model}}"), unit="s"),
        graph("First byte p95", "What clients of streams wait before anything comes. Above the line: alert "
              "EvenerFirstByte.",
              (quantile(0.95, "evener_first_byte_seconds", "model", AT), "{{model}}"), unit="s", line=5),
        graph("Outcomes", "Of all requests. Cancelled ones are clients that left: mostly they waited too long.",
              (requests("outcome", AT), "{{outcome}}"), unit="reqps", stack=True),
        graph("Refusals", "Answers of Evener's own. 4xx codes are the clients', no_replicas and out_of_buffers yours: "
              "conf/README.md, What clients meet.",
              (f"sum by (code) ({rate('evener_refusals_total', AT)})", "{{code}}"), unit="reqps", stack=True),
    ]
    process = [
        graph("CPU", "Cores that Evener uses. At `threads` it is full: give it more, or another Evener.",
              (f"rate(process_cpu_seconds_total{{{AT}}}[$__rate_interval]) and on (job, instance) evener_build_info",
               "{{instance}}"), width=8),
        graph("Memory", "Resident. Bodies that are kept are part of it: `buffers` bounds them.",
              (f"process_resident_memory_bytes{{{AT}}} and on (job, instance) evener_build_info", "{{instance}}"),
              (f"evener_buffered_bytes{{{AT}}}", "{{instance}} bodies kept"), width=8, unit="bytes"),
        graph("Connections of clients", "By listener. At `max_connections` new ones are closed.",
              (f"evener_connections{{{AT}}}", "{{instance}} {{listener}}"), width=8),
        graph("Open files", "In part of what the process may open. Near 1: raise LimitNOFILE.",
              (f"process_open_fds{{{AT}}} / process_max_fds and on (job, instance) evener_build_info", "{{instance}}"),
              width=8, unit="percentunit", line=0.9),
        graph("Configuration", "Counts the files applied. Eveners that shall be alike and are not: one did not get "
              "the file.",
              (f"evener_config_generation{{{AT}}}", "{{instance}}"), width=8),
        graph("Reloads", "Within the last hour. Rejected ones: `evener check` says why.",
              (f"sum by (result) (increase(evener_config_reloads_total{{{AT}}}[1h]))", "{{result}}"), width=8),
        graph("Access log lines lost", "Their reader is too slow: a disk or a pipe. Requests are never held up by it.",
              (f"sum by (instance) ({rate('evener_access_log_dropped_total', AT)})", "{{instance}}"), width=8),
        stat("Since the start", "A small number nobody expected is a crash or a restart: `journalctl -u evener`.",
             (f"time() - process_start_time_seconds{{{AT}}} and on (job, instance) evener_build_info", "{{instance}}"),
             width=8, unit="s"),
        stat("Builds", "More than one only while you roll out.",
             (f"count by (version) (evener_build_info{{{AT}}})", "{{version}}"), width=8, text="value_and_name"),
    ]
    return board("evener-overview", "Evener: overview", "Is anything wrong, and with which model?", [INSTANCE],
                 [("Is anything wrong?", health), ("Models", models), ("Evener itself", process)], AT)


def model():
    of = f'{AT}, model="$model"'
    where = f'{of}, version=~"$version"'
    variables = [
        INSTANCE,
        variable("model", f"label_values(evener_split_share{{{AT}}}, model)", "Model", several=False),
        variable("version", f"label_values(evener_split_share{{{of}}}, version)", "Version", several=True),
    ]
    duration, first_byte = "evener_request_duration_seconds", "evener_first_byte_seconds"

    def by_version(metric, *quantiles):
        return [(quantile(q, metric, "version", where), f"{{{{version}}}} p{q * 100:.0f}") for q in quantiles]

    traffic = [
        graph("Requests", "By version; without a name: Evener refused them before they had one, see Refusals.",
              (requests("version", of), "{{version}}"), unit="reqps"),
        graph("Failed", "By no fault of the client. One version alone: abort the canary, or take its share away. "
              "All: see Evener: replicas.", (failed("version", where), "{{version}}"), unit="percentunit", line=0.05),
        graph("Share: set and observed", "Observed since the shares last changed. Apart for long: a version without a "
              "usable replica, or clients that ask for a version (alert EvenerSplitMismatch).",
              (f"max by (version) (evener_split_share{{{where}}})", "{{version}} set"),
              (f"avg by (version) (evener_split_observed_share{{{where}}})", "{{version}} observed"),
              unit="percentunit", top=1),
        graph("In flight", "Rises with the same traffic: answers take longer.",
              (f"sum by (version) (evener_in_flight{{{where}}})", "{{version}}")),
        graph("Failures by outcome", "timeout and overloaded: too little capacity. connect_failure and reset: "
              "replicas that died. server_error: the model.",
              (requests("version, outcome", f'{where}, outcome!~"success|client_error"'), "{{version}} {{outcome}}"),
              unit="reqps", stack=True),
        graph("Answers by code", "As clients got them; 499: the client left.",
              (requests("code", of), "{{code}}"), unit="reqps", stack=True),
    ]
    speed = [
        graph("Latency", "Whole answers. A version that is slower at p50 is slower; at p99 alone it has a bad "
              "replica or long requests.", *by_version(duration, 0.5, 0.95, 0.99), unit="s"),
        graph("First byte", "Late while tokens come as fast as ever: requests wait for a place. Add replicas, or "
              "slots.",
              *by_version(first_byte, 0.5, 0.95), unit="s", line=5),
        graph("Tokens", "Made by each version, and the prompts that it took: as answers tell in `usage`; a stream that "
              "does not counts an event as one. Fewer at the same requests: shorter answers, or slower replicas.",
              (f"sum by (version, kind) (rate(evener_tokens_total{{{where}}}[$__rate_interval]))",
               "{{version}} {{kind}}"), unit="short"),
        graph("Between chunks", "Of streams: the time between two tokens, about. Rises when a replica has too many "
              "at once.",
              *by_version("evener_inter_chunk_seconds", 0.5, 0.95), unit="s"),
        heatmap("Latency, all versions", "Two bands are two kinds of requests, or one bad replica.",
                f"sum by (le) (increase({duration}_bucket{{{where}}}[$__rate_interval]))"),
    ]
    second = [
        graph("Retries", "Attempts repeated elsewhere, by why the one before failed. Clients do not see these "
              "failures; the replicas' logs do.",
              (f"sum by (reason) ({rate('evener_retries_total', of)})", "{{reason}}"),
              (f"sum({rate('evener_retry_budget_exhausted_total', of)})", "not made: budget spent"),
              width=8, unit="ops"),
        graph("Hedges", "won: the second attempt was first. Mostly lost: `hedge.after` is too early. Nothing: "
              "hedging is off.",
              (f"sum by (result) ({rate('evener_hedges_total', of)})", "{{result}}"), width=8, unit="ops"),
        graph("Refusals", "Answers of Evener's own, by code: conf/README.md, What clients meet.",
              (f"sum by (code) ({rate('evener_refusals_total', of)})", "{{code}}"), width=8, unit="reqps", stack=True),
    ]
    standing = [
        graph("Replicas by state", "Sum over the versions shown. Fewer healthy ones than you run: `evener status` "
              "says why.",
              (f"sum by (state) (evener_replica_state{{{where}}})", "{{state}}"), stack=True),
        graph("Failing open", "1: nothing of the model is usable, and what is known to be bad is asked.",
              (f"max by (version) (evener_fail_open{{{where}}})", "{{version}}"), top=1),
    ]
    return board("evener-model", "Evener: model", "The versions of a model, side by side.", variables,
                 [("Traffic", traffic), ("Speed", speed), ("Second attempts, refusals", second),
                  ("Replicas", standing)], of)


def canary():
    of = f'{AT}, model="$model"'
    variables = [
        INSTANCE,
        variable("model", f"label_values(evener_canary_state{{{AT}}}, model)", "Model", several=False),
    ]
    state = state_number("evener_canary_state", CANARY_STATES, "instance", of)
    now = stat("State", "What it means and what comes next: `evener canary status MODEL`.", (state, "{{instance}}"),
               width=8)
    now["fieldConfig"]["defaults"]["mappings"] = numbered(CANARY_STATES)
    now["options"]["colorMode"] = "background"
    served = f'{of}, version!=""'
    rolled_back = f"evener_rollbacks_total{{{of}}}"
    left = requests("version", f'{served}, outcome="cancelled"')
    mirrored = "evener_mirror_requests_total"
    agreed, compared = (f"sum({rate(mirrored, f'{of}, {results}')})"
                        for results in ('result="agreed"', 'result=~"agreed|differed"'))
    verdict = [
        now,
        stat("Rolled back", "Since Evener started, by the check that spoke loudest; none: an operator, or no verdict "
             "in time.",
             (f"sum by (check) ({rolled_back}) > 0 or on () sum({rolled_back})", "{{check}}"),
             width=8, text="value_and_name", steps=GOOD_BELOW_ONE),
        stat("Promoted", "Since Evener started.", (f"sum(evener_promotions_total{{{of}}})", ""), width=4),
        stat("Webhooks given up", "Nobody was told: alert EvenerWebhookFailed.",
             (f'sum(evener_webhooks_total{{{of}, result="failed"}})', ""), width=4, steps=GOOD_BELOW_ONE),
        states("State over time", "paused and undecided wait for somebody: `evener canary resume`, `promote` or "
               "`abort`.",
               state, "{{instance}}", CANARY_STATES, height=5),
        graph("Share: set and observed", "Climbs by the steps of the canary, falls to the first when it fails.",
              (f"max by (version) (evener_split_share{{{of}}})", "{{version}} set"),
              (f"avg by (version) (evener_split_observed_share{{{of}}})", "{{version}} observed"),
              unit="percentunit", top=1),
        graph("Evidence against the candidate", "The logarithm, by check; below 0 it speaks for the candidate. The "
              "line is where `false_alarm: 1%` ends it. What counts is the weighted mean of the checks, so that one "
              "alone must go higher.",
              (f"max by (check) (evener_canary_evidence{{{of}}})", "{{check}}"), line=4.605, bottom=None),
    ]
    sides = [
        graph("Failed", "Candidate and the others in the same minutes. A pause (`evener canary pause MODEL`) keeps "
              "the share while you look.", (failed("version", served), "{{version}}"), unit="percentunit"),
        graph("Requests", "Evidence comes with the candidate's requests: few of them, slow verdict.",
              (requests("version", served), "{{version}}"), unit="reqps"),
        graph("First byte p95", "Compare at the same load: one candidate replica beside three queues more.",
              (quantile(0.95, "evener_first_byte_seconds", "version", of), "{{version}}"), unit="s"),
        graph("Latency p95", "Longer answers take longer: a check of `output_tokens` tells them apart.",
              (quantile(0.95, "evener_request_duration_seconds", "version", of), "{{version}}"), unit="s"),
        graph("Clients that left", "They waited too long, mostly. More at the candidate: it hangs.",
              (f"{left} or 0 * {requests('version', served)}", "{{version}}"), unit="reqps"),
        graph("Replicas in service", "Healthy ones. A candidate needs as many in proportion as its share.",
              (f'sum by (version) (evener_replica_state{{{of}, state="healthy"}})', "{{version}}")),
    ]
    mirror = [
        graph("Mirrored answers that agree", "Of those compared. `evener mirror report MODEL` has the worst pairs. "
              "Nothing: no mirror.", (f"{agreed} / {compared}", "agree"), unit="percentunit", top=1),
        graph("Mirrored requests", "failed and timeout: the candidate does not answer. skipped: no room; raise "
              "`concurrency`.",
              (f"sum by (result) ({rate(mirrored, of)})", "{{result}}"), unit="reqps", stack=True),
    ]
    return board("evener-canary", "Evener: canary", "Where a roll-out is, and what speaks for and against it.",
                 variables, [("Verdict", verdict), ("Candidate and the others", sides), ("Mirror", mirror)], of)


def replicas():
    those = f'{AT}, model="$model"'
    of = f'{those}, version=~"$version"'
    where = f'{of}, replica=~"$replica"'
    variables = [
        INSTANCE,
        variable("model", f"label_values(evener_replica_state{{{AT}}}, model)", "Model", several=False),
        variable("version", f"label_values(evener_replica_state{{{those}}}, version)", "Version", several=True),
        variable("replica", f"label_values(evener_replica_state{{{of}}}, replica)", "Replica", several=True),
    ]
    who, legend = "version, replica", "{{version}} {{replica}}"
    attempts = f"sum by ({who}) ({rate('evener_replica_requests_total', where)})"
    bad = rate("evener_replica_requests_total", f'{where}, class=~"server_error|timeout|connect_failure|reset"')
    failures = f"(sum by ({who}) ({bad}) or 0 * {attempts}) / {attempts}"
    state = state_number("evener_replica_state", REPLICA_STATES, who, where)
    columns = [
        ("State", state, "short", None, numbered(REPLICA_STATES)),
        ("In flight", f"sum by ({who}) (evener_in_flight{{{where}}})", "short", None, None),
        ("Attempts/s", attempts, "reqps", None, None),
        ("Failed", failures, "percentunit", FAILING, None),
        ("Ejections", f"sum by ({who}) (evener_ejections_total{{{where}}})", "short", None, None),
    ]
    now = [
        table("Replicas", "The worst state first; several Eveners may see one replica differently, the worst of it "
              "is shown. Reasons and countdowns: `evener status MODEL`.", "replica", columns, sort="State"),
        states("State over time", "ejected: it failed more than its peers, and comes back by itself. unhealthy: it "
               "fails its health check. draining: an operator's; `evener undrain` ends it.", state, legend,
               REPLICA_STATES, height=9),
    ]
    load = [
        graph("In flight", "Alike by weight, with `least_load`, as long as all are as fast. A slow replica gets "
              "fewer requests, not more at once.", (f"sum by ({who}) (evener_in_flight{{{where}}})", legend)),
        graph("Attempts", "Far fewer at one: it is slow, starts slowly, or is out.", (attempts, legend), unit="reqps"),
        graph("Busiest against the mean", "In flight, by version. Above 2 for long: one replica is slow, or requests "
              "are few.",
              (f"max by (version) (sum by ({who}) (evener_in_flight{{{where}}}))"
               f" / (avg by (version) (sum by ({who}) (evener_in_flight{{{where}}})) > 0)", "{{version}}")),
        graph("Attempts by class", "Of all replicas shown, retries and hedges included.",
              (f"sum by (class) ({rate('evener_replica_requests_total', where)})", "{{class}}"),
              unit="reqps", stack=True),
    ]
    trouble = [
        graph("Failed attempts", "One alone: ejection takes it out, or `evener drain` it. All alike: look at what "
              "they share.",
              (failures, legend), unit="percentunit", line=0.05),
        graph("Ejections", "Since Evener started, by cause. Steps at the same replica again and again: repair it.",
              (f"sum by ({who}, cause) (evener_ejections_total{{{where}}})", f"{legend} {{{{cause}}}}")),
        graph("Ejections refused", "In an hour. More replicas deserve it than `max_percent` allows: the version as a "
              "whole is bad.",
              (f"sum by (version) (increase(evener_ejections_refused_total{{{of}}}[1h]))", "{{version}}")),
        graph("Replicas by state", "Sum over what is shown.",
              (f"sum by (state) (evener_replica_state{{{where}}})", "{{state}}"), stack=True),
    ]
    return board("evener-replicas", "Evener: replicas", "Which replica is out, slow or failing.", variables,
                 [("State", now), ("Load", load), ("Trouble", trouble)], those)


def texts():
    """File names with what belongs into them."""
    for make in (overview, model, canary, replicas):
        yield f"{make.__name__}.json", json.dumps(make(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in texts():
        (HERE / name).write_text(text)
