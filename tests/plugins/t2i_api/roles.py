"""A plugin whose users are who they say they are, with roles that a file tells, read anew with each question."""

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from swarmkernel import PUBLIC, Accounts, Identity, Limits, Plugins, Route, Sessions, hookimpl

LIMITS = {
    "max_outpath_depth": 5,
    "max_t2i_simultaneous": 32,
    "allow_unsafe_outpaths": False,
    "model_whitelist": (),
    "model_blacklist": (),
}


@attrs.frozen
class Roles:
    """The file: by user, what differs from the usual limits, and under `permissions` the ids that they hold."""

    path: Path

    def role(self, user_id):
        return json.loads(self.path.read_text()).get(user_id, {})

    async def identify(self, headers, peer):
        name = headers.get("x-name")
        return Identity(name) if name else None

    def admits(self, session):
        return True

    def may_act_as(self, user_id, other):
        return False

    def of(self, user_id):
        return LIMITS | self.role(user_id)


async def expel(call, user: str):
    """End all sessions of a user and interrupt their work, as accounts do for who loses a role."""
    sessions = call.get(Sessions).of_user(user)
    for session in sessions:
        await call.get(Sessions).end(session)
    for session in sessions[:1]:
        call.get(Plugins).gather(
            "basic_interrupt", services=call.services, session=session, other_sessions=True
        )
    return {"ended": len(sessions)}


@hookimpl
def swarm_routes():
    return [Route("Expel", expel, permission=PUBLIC)]


@hookimpl
@asynccontextmanager
async def swarm_lifespan(services):
    roles = Roles(Path(os.environ["ROLES"]))
    services.add(Roles, roles)
    services.add(Accounts, roles)
    services.add(Limits, roles)
    yield


@hookimpl
def swarm_vote(services, session, permission):
    held = services.get(Roles).role(session.user_id).get("permissions")
    return held is None or permission.id in held
