"""kube/index.py: who was behind an address at a time, as objects come, change, go, and addresses are used again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.kube import _tenure
from clovisor_py.kube._tenure import RETAIN_NS
from clovisor_py.kube.changes import Change
from clovisor_py.kube.index import Index
from clovisor_py.kube.objects import Owner, Pod, Port, Ref, Service, Slice

SECOND = 10**9
BASE = 1_000_000 * SECOND
CREATED = "1970-01-12T13:46:40Z"  # BASE


class Cluster:
    """Feeds an index; time goes on by what a test says."""

    def __init__(self):
        self.index = Index()
        self.now = BASE + 100 * SECOND
        self.known = {}

    def after(self, seconds):
        self.now += int(seconds * SECOND)
        return self

    def put(self, new):
        self.index.apply(Change("w", new.ref, self.known.get(new.ref), new), self.now)
        self.known[new.ref] = new
        return new

    def delete(self, old):
        self.index.apply(Change("w", old.ref, self.known.pop(old.ref), None), self.now)

    def who(self, ip, port=4000, ago=0.0):
        return self.index.resolve(ip, port, self.now - int(ago * SECOND))

    def name(self, ip, port=4000, ago=0.0):
        found = self.who(ip, port, ago)
        return found.name if found else None


def pod(name, *ips, uid="", created=CREATED, phase="Running", owner=None, **more):
    return Pod(
        Ref("Pod", "shop", name),
        uid=uid or f"uid-{name}",
        node="n1",
        ips=ips,
        phase=phase,
        created=created,
        owner=owner,
        **more,
    )


def service(name, *ips, port=80, **more):
    return Service(Ref("Service", "shop", name), ips=ips, ports=(Port(port),), **more)


def slice_(of, *addresses, port=8080, name=""):
    return Slice(Ref("EndpointSlice", "shop", name or f"{of}-x"), of, addresses, (Port(port),))


def owner(kind, name, by=None):
    return Owner(Ref(kind, "shop", name), by)


def node(name, *ips):
    return Owner(Ref("Node", "", name), ips=ips)


def test_a_pod_by_its_addresses():
    cluster = Cluster()
    cluster.put(pod("cart-1", "10.0.0.5", "fd00::5"))
    found = cluster.who("10.0.0.5")
    assert found is not None and found is cluster.who("10.0.0.5", 99)
    assert (found.name, found.namespace, found.node, found.kind, found.uid) == ("cart-1", "shop", "n1", "pod", "uid-cart-1")
    assert cluster.name("fd00::5") == "cart-1" and cluster.who("10.0.0.6") is None
    assert cluster.index.resolve("10.0.0.5", 1, BASE - 1) is None  # before it was created


def test_a_pod_that_has_ended_or_is_on_the_hosts_network_has_no_ip_of_its_own():
    cluster = Cluster()
    cluster.put(pod("job", "10.0.0.5"))
    cluster.after(5).put(pod("job", "10.0.0.5", phase="Succeeded"))
    assert cluster.who("10.0.0.5") is None and cluster.name("10.0.0.5", ago=1) == "job"
    cluster.put(pod("agent", "10.1.0.1", host_network=True))
    assert cluster.who("10.1.0.1") is None


def test_an_ip_used_again_is_whose_it_was_at_the_time():
    cluster = Cluster()
    first = cluster.put(pod("old", "10.0.0.5"))
    cluster.put(slice_("web", "10.0.0.5"))
    cluster.after(10).delete(first)
    cluster.after(1).put(slice_("web"))  # later than its pod's end
    cluster.after(9).put(pod("new", "10.0.0.5", created="1970-01-12T13:48:35Z"))
    assert cluster.name("10.0.0.5") == "new" and cluster.who("10.0.0.5").service == ""
    assert cluster.name("10.0.0.5", ago=5) == "new"  # it had it before its status said so
    assert cluster.name("10.0.0.5", ago=15) == "old" and cluster.who("10.0.0.5", ago=15).service == "web"
    cluster.after(1).put(slice_("db", "10.0.0.5"))
    assert cluster.who("10.0.0.5").service == "db" and cluster.who("10.0.0.5", ago=16).service == "web"


def test_a_new_claim_ends_one_whose_deletion_was_missed():
    cluster = Cluster()
    cluster.put(pod("old", "10.0.0.5"))
    cluster.after(10).put(pod("new", "10.0.0.5"))
    assert (cluster.name("10.0.0.5"), cluster.name("10.0.0.5", ago=1)) == ("new", "old")
    cluster.after(1).delete(pod("old", "10.0.0.5"))
    assert cluster.name("10.0.0.5") == "new"


def test_a_pod_made_again_under_its_name_is_another():
    cluster = Cluster()
    cluster.put(pod("db-0", "10.0.0.5", uid="u1"))
    cluster.after(10).put(pod("db-0", "10.0.0.6", uid="u2"))
    assert cluster.who("10.0.0.5") is None and cluster.who("10.0.0.5", ago=5).uid == "u1"
    cluster.after(10).put(pod("db-0", "10.0.0.6", uid="u3"))
    assert cluster.who("10.0.0.6").uid == "u3" and cluster.who("10.0.0.6", ago=5).uid == "u2"


def test_an_address_that_a_pod_gives_up():
    cluster = Cluster()
    cluster.put(pod("a", "10.0.0.5"))
    cluster.after(1).put(pod("a", "10.0.0.6"))
    assert cluster.who("10.0.0.5") is None and cluster.name("10.0.0.6") == "a"


def test_owners_up_to_the_top_and_after_they_are_gone():
    cluster = Cluster()
    deployment, job = owner("Deployment", "cart"), owner("Job", "clean-1", Ref("CronJob", "shop", "clean"))
    replicas = owner("ReplicaSet", "cart-7d9f", deployment.ref)
    cluster.put(pod("cart-7d9f-x", "10.0.0.5", owner=replicas.ref))
    assert cluster.who("10.0.0.5").owner == "replicaset/cart-7d9f"
    for one in (deployment, replicas, job, node("n1", "10.1.0.1")):
        cluster.put(one)
    assert cluster.who("10.0.0.5").owner == "deployment/cart"
    cluster.put(pod("clean-1-x", "10.0.0.6", owner=job.ref))
    cluster.put(pod("db-0", "10.0.0.7", owner=Ref("StatefulSet", "shop", "db")))
    cluster.put(pod("alone", "10.0.0.8"))
    cluster.put(pod("rollout-x", "10.0.0.9", owner=Ref("ReplicaSet", "shop", "r")))
    cluster.put(owner("ReplicaSet", "r", Ref("Rollout", "shop", "r")))
    owners = [cluster.who(f"10.0.0.{n}").owner for n in (6, 7, 8, 9)]
    assert owners == ["cronjob/clean", "statefulset/db", "", "rollout/r"]
    assert cluster.index.chain(replicas.ref) == [replicas, deployment] and cluster.index.owner(job.ref) == job
    for one in (deployment, replicas):
        cluster.after(1).delete(one)
    assert cluster.who("10.0.0.5").owner == "deployment/cart"
    cluster.after(RETAIN_NS / SECOND).put(pod("alone", "10.0.0.8"))
    assert cluster.index.owner(replicas.ref) is None


def test_owners_in_a_circle_come_to_an_end():
    cluster = Cluster()
    cluster.put(owner("A", "a", Ref("B", "shop", "b")))
    cluster.put(owner("B", "b", Ref("A", "shop", "a")))
    cluster.put(pod("x", "10.0.0.5", owner=Ref("A", "shop", "a")))
    assert cluster.who("10.0.0.5").owner in {"a/a", "b/b"}
    assert len(cluster.index.chain(Ref("A", "shop", "a"))) == 8


def test_an_owner_made_again_outlives_the_end_of_the_first():
    cluster = Cluster()
    one = cluster.put(owner("Deployment", "cart"))
    cluster.delete(one)
    cluster.after(1).put(owner("Deployment", "cart"))
    cluster.index.expire(cluster.now + 2 * RETAIN_NS)
    assert cluster.index.owner(one.ref) is not None


def test_a_service_by_its_addresses():
    cluster = Cluster()
    cluster.put(service("web", "10.96.0.7", "5.6.7.8"))
    found = cluster.who("10.96.0.7", 80)
    assert (found.name, found.namespace, found.service, found.kind, found.owner) == ("web", "shop", "web", "service", "")
    assert cluster.name("10.96.0.7", 81) == "web" and cluster.name("5.6.7.8", 80) == "web"
    cluster.after(1).delete(service("web"))
    assert cluster.who("10.96.0.7", 80) is None and cluster.name("10.96.0.7", 80, ago=1) == "web"
    cluster.put(service("other", "10.96.0.7"))
    assert cluster.name("10.96.0.7", 80) == "other" and cluster.name("10.96.0.7", 80, ago=1) == "web"


def test_load_balancers_share_addresses_by_port_and_nodes_keep_theirs():
    cluster = Cluster()
    cluster.put(service("web", "5.6.7.8", "10.1.0.1", port=80))
    cluster.put(service("mail", "5.6.7.8", port=25))
    cluster.put(service("also-mail", "9.9.9.9", port=25))
    cluster.put(service("mail-too", "9.9.9.9", port=25))
    cluster.put(node("n1", "10.1.0.1"))
    assert (cluster.name("5.6.7.8", 80), cluster.name("5.6.7.8", 25), cluster.name("5.6.7.8", 99)) == ("web", "mail", None)
    assert cluster.name("9.9.9.9", 25) is None  # two fit: not guessed
    assert (cluster.name("10.1.0.1", 80), cluster.name("10.1.0.1", 22)) == ("web", "n1")


def test_on_a_node():
    cluster = Cluster()
    cluster.put(node("n1", "10.1.0.1"))
    cluster.put(service("web", "10.96.0.7", node_ports=(30080,)))
    cluster.put(pod("ingress", "10.1.0.1", host_network=True, ports=(Port(443), Port(443, protocol="UDP"))))
    cluster.put(slice_("front", "10.1.0.1", port=443))
    cluster.put(slice_("kubelet", "10.1.0.1", port=10250))
    assert (cluster.who("10.1.0.1", 22).kind, cluster.name("10.1.0.1", 22)) == ("node", "n1")
    found = cluster.who("10.1.0.1", 30080)
    assert (found.kind, found.name, found.node) == ("service", "web", "n1")
    found = cluster.who("10.1.0.1", 443)
    assert (found.kind, found.name, found.service) == ("pod", "ingress", "front")
    cluster.put(pod("second", "10.1.0.1", host_network=True, ports=(Port(443),)))
    assert cluster.name("10.1.0.1", 443) == "n1"  # two fit
    cluster.after(1).delete(pod("ingress"))
    assert cluster.name("10.1.0.1", 443) == "second"


def test_the_service_of_a_pod():
    cluster = Cluster()
    cluster.put(pod("cart-1", "10.0.0.5"))
    assert cluster.who("10.0.0.5", 8080).service == ""
    cluster.after(1).put(slice_("web", "10.0.0.5", port=8080))
    assert cluster.who("10.0.0.5", 8080).service == cluster.who("10.0.0.5", 40000).service == "web"
    assert cluster.who("10.0.0.5", 8080, ago=1).service == "web"  # not ready yet, but the same pod
    cluster.put(slice_("admin", "10.0.0.5", port=9090))
    services = [cluster.who("10.0.0.5", port).service for port in (8080, 9090, 40000)]
    assert services == ["web", "admin", ""]
    cluster.put(slice_("canary", "10.0.0.5", port=8080))
    assert cluster.who("10.0.0.5", 8080).service == ""  # two fit
    cluster.after(1).put(slice_("canary", port=8080))
    assert cluster.who("10.0.0.5", 8080).service == "web"


def test_a_slice_that_comes_before_its_pod():
    cluster = Cluster()
    cluster.put(slice_("web", "10.0.0.5"))
    cluster.after(1).put(pod("cart-1", "10.0.0.5"))
    assert cluster.who("10.0.0.5", 8080).service == "web"


def test_what_is_outside_but_behind_a_service():
    cluster = Cluster()
    cluster.put(slice_("database", "192.0.2.1", port=5432))
    found = cluster.who("192.0.2.1", 5432)
    assert (found.name, found.kind, found.service) == ("database", "service", "database")
    assert cluster.who("192.0.2.1", 5433) is None and cluster.who("8.8.8.8", 53) is None
    cluster.put(slice_("other", "192.0.2.1", port=5432))
    assert cluster.who("192.0.2.1", 5432) is None


def test_the_past_is_forgotten_after_a_while_and_before_it_grows_too_large(monkeypatch):
    cluster = Cluster()
    cluster.delete(cluster.put(pod("old", "10.0.0.5")))
    cluster.after(RETAIN_NS / SECOND - 1).put(pod("x", "10.0.0.6"))
    assert cluster.name("10.0.0.5", ago=RETAIN_NS / SECOND) == "old"
    cluster.after(1).put(pod("x", "10.0.0.7"))
    assert cluster.index.resolve("10.0.0.5", 1, BASE + 50 * SECOND) is None and cluster.index.forgotten == 0
    monkeypatch.setattr(_tenure, "MOST_ENDED", 10)
    for number in range(50):
        cluster.delete(cluster.put(pod(f"p{number}", f"10.0.1.{number % 5}")))
    assert cluster.index.forgotten == 41 and len(cluster.index) <= 12
    cluster.index.expire(cluster.now + 2 * RETAIN_NS)
    assert len(cluster.index) == 1 and cluster.name("10.0.0.7") == "x"


def test_a_clock_of_the_server_that_is_ahead_or_nonsense_hides_nobody():
    cluster = Cluster()
    cluster.put(pod("ahead", "10.0.0.5", created="2100-01-01T00:00:00Z"))
    cluster.put(pod("odd", "10.0.0.6", created="yesterday"))
    assert cluster.name("10.0.0.5") == "ahead" and cluster.name("10.0.0.6") == "odd"


IPS = [f"10.0.0.{n}" for n in range(3)]
STEP = st.tuples(st.sampled_from("abc"), st.sampled_from([*IPS, "gone"]), st.integers(1, 60))


@given(st.lists(STEP, max_size=40))
def test_every_moment_that_is_kept_names_who_was_seen_then(steps):
    """A model that writes down, at each step, who has which IP by the latest claim."""
    cluster, holders, history = Cluster(), {}, []
    for number, (name, ip, seconds) in enumerate(steps):
        cluster.after(seconds)
        holders = {at: who for at, who in holders.items() if who != name}
        key = Ref("Pod", "shop", name)
        if ip == "gone":
            if key in cluster.known:
                cluster.delete(cluster.known[key])
        else:
            cluster.put(pod(name, ip, uid=f"{name}{number}"))
            holders[ip] = name
        history.append((cluster.now, dict(holders)))
        for at, then in history:
            if at > cluster.now - RETAIN_NS:
                for one, who in then.items():
                    assert cluster.index.resolve(one, 1, at).name == who
    cluster.index.expire(cluster.now + 2 * RETAIN_NS)
    assert len(cluster.index) == len(holders)


def ports(*named):
    return tuple(Port(number, name) for number, name in named)


def web_cluster(*names, owners=("cart",)):
    """A Service with named ports, and pods behind it."""
    cluster = Cluster()
    cluster.put(Service(Ref("Service", "shop", "web"), ips=("10.96.0.7",), ports=ports((80, "http"), (81, "admin"))))
    for number, name in enumerate(names):
        own = owner("Deployment", owners[number % len(owners)])
        cluster.put(own)
        cluster.put(pod(name, f"10.0.0.{number}", owner=own.ref))
    addresses = tuple(f"10.0.0.{number}" for number in range(len(names)))
    cluster.put(Slice(Ref("EndpointSlice", "shop", "web-1"), "web", addresses, ports((8080, "http"), (9090, "admin"))))
    return cluster


def test_a_service_with_one_pod_behind_it_is_that_pod():
    cluster = web_cluster("a")
    found = cluster.who("10.96.0.7", 80)
    assert (found.kind, found.name, found.owner, found.service) == ("pod", "a", "deployment/cart", "web")
    assert cluster.who("10.96.0.7", 82).kind == "service"  # a port that it has not
    assert cluster.who("10.96.0.7", 80, ago=1).kind == "service"  # before it was the only one: nobody knows
    cluster.after(5).put(Slice(Ref("EndpointSlice", "shop", "web-2"), "web", ("10.0.0.99",), ports((8080, "http"))))
    assert cluster.who("10.96.0.7", 80).kind == "service"  # the other one is not known
    assert cluster.who("10.96.0.7", 81).name == "a"
    cluster.after(5).delete(Slice(Ref("EndpointSlice", "shop", "web-2")))
    assert cluster.who("10.96.0.7", 80).name == "a" and cluster.who("10.96.0.7", 80, ago=1).kind == "service"


def test_a_service_with_replicas_behind_it_has_their_owner():
    found = web_cluster("a", "b", "c").who("10.96.0.7", 80)
    assert (found.kind, found.name, found.owner) == ("service", "web", "deployment/cart")
    assert web_cluster("a", "b", owners=("cart", "canary")).who("10.96.0.7", 80).owner == ""
    cluster = web_cluster("a", "b")
    cluster.after(1).delete(cluster.known[Ref("Pod", "shop", "b")])
    assert cluster.who("10.96.0.7", 80).owner == ""  # of the one that is gone nothing is known
    assert web_cluster().who("10.96.0.7", 80).kind == "service"


def test_what_pods_say_of_themselves_goes_with_them():
    cluster = web_cluster("a", "b")
    version, key = {"app.kubernetes.io/version": "1.2"}, "app.kubernetes.io/name"
    held = cluster.known[Ref("Pod", "shop", "a")]
    assert (cluster.who("10.0.0.0").service_name, cluster.who("10.0.0.0").called) == ("", "cart")
    cluster.put(held._replace(labels={key: "basket", **version}))
    found = cluster.who("10.0.0.0")
    assert (found.service_name, found.service_version, found.called) == ("basket", "1.2", "basket")
    assert cluster.who("10.96.0.7", 80).called == "cart"  # of two replicas only one says so
    cluster.put(cluster.known[Ref("Pod", "shop", "b")]._replace(labels={key: "basket"}))
    assert cluster.who("10.96.0.7", 80).called == "basket"


def test_a_node_port_leads_to_the_port_that_it_stands_for():
    cluster = web_cluster("a")
    cluster.put(node("n1", "10.1.0.1"))
    held = cluster.known[Ref("Service", "shop", "web")]
    cluster.put(held._replace(node_ports=(30080, 30081)))
    assert cluster.name("10.1.0.1", 30080) == cluster.name("10.1.0.1", 30081) == "a"
    cluster.put(held._replace(node_ports=(30080,)))
    assert cluster.who("10.1.0.1", 30080).kind == "service"  # which of two ports is not told


def test_a_slice_that_changes_its_service():
    cluster = web_cluster("a")
    cluster.put(service("other", "10.96.0.8"))
    cluster.put(Slice(Ref("EndpointSlice", "shop", "web-1"), "other", ("10.0.0.0",), ports((8080, ""))))
    assert (cluster.who("10.96.0.7", 80).kind, cluster.name("10.96.0.8", 80)) == ("service", "a")
    cluster.delete(Slice(Ref("EndpointSlice", "shop", "web-1")))
    assert cluster.who("10.96.0.8", 80).kind == "service"
    assert not cluster.index._backends._slices and not cluster.index._backends._changed


def test_a_service_that_leads_outside():
    cluster = Cluster()
    one = cluster.put(Service(Ref("Service", "shop", "db"), kind="ExternalName", external_name="db.example"))
    assert cluster.index.is_external("shop", "db") and not cluster.index.is_external("else", "db")
    cluster.put(one._replace(kind="ClusterIP"))
    assert not cluster.index.is_external("shop", "db")
    cluster.put(one)
    cluster.delete(one)
    assert not cluster.index.is_external("shop", "db")


def test_an_ip_that_changes_hands_within_a_second():
    """Whoever is asked for by a session's begin, also of a session that ends when the other has it."""
    cluster = Cluster()
    first = cluster.put(pod("first", "10.0.0.5"))
    created = "1970-01-12T13:48:20Z"  # the second in which all of this happens
    cluster.after(0.3).delete(first)
    cluster.after(0.1).put(pod("second", created=created))
    cluster.after(0.2).put(pod("second", "10.0.0.5", created=created))
    cluster.after(0.2)
    assert [cluster.name("10.0.0.5", ago=ago) for ago in (0.0, 0.4, 0.501, 0.7)] == ["second", "second", "first", "first"]
    cluster.after(0.1).put(pod("third", "10.0.0.5", created=created))  # the deletion of the second comes late
    cluster.after(0.1).delete(pod("second"))
    assert [cluster.name("10.0.0.5", ago=ago) for ago in (0.0, 0.101, 0.8)] == ["third", "second", "first"]
