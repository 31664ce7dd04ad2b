import pytest
from tests.support.kernel import Talk
pytestmark = pytest.mark.live
def test_x(rig):
    t = Talk(rig).opened_by_peer()
    print(t.peer(b"hello"), rig.counted(), rig.session())
    from tests.support.kernel import tcp
    for n in (3000,3500,3700,4000,5000,20000, 60000):
        try:
            print(n, [len(r.data) for r in rig.send(0, tcp(0, b"x"*n))])
        except OSError as e: print(n, e)
