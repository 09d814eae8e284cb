"""A process that asks for the admission of runs: `admitting.py URL LEASE_SECONDS QUOTAS`, then a command on each line.

`admit N` asks for N runs of one user at once and answers how many were admitted; `release N` gives N of them back.
"""

import asyncio
import os
import sys

import msgspec

from tailrace.chat.identity.contract import Identity
from tailrace.chat.limits.admission import Admission, Admissions, Quotas
from tailrace.chat.limits.redis import RedisPlaces
from tailrace.web.errors import RefusedError

_USER = Identity(tenant="acme", subject="ann")


async def _admit(limits: Admissions, run_id: str) -> Admission | None:
    try:
        return await limits.admit(_USER, run_id)
    except RefusedError:
        return None


def _say(count: int) -> None:
    sys.stdout.write(f"{count}\n")
    sys.stdout.flush()


async def _main(url: str, lease_seconds: float, quotas: Quotas) -> None:
    limits = Admissions(quotas, places=RedisPlaces(url, timeout_seconds=5, lease_seconds=lease_seconds))
    held: list[Admission] = []
    number = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, count = line.split()
        if verb == "admit":
            run_ids = [f"{os.getpid()}-{number + each}" for each in range(int(count))]
            number += len(run_ids)
            admitted = [one for one in await asyncio.gather(*(_admit(limits, run_id) for run_id in run_ids)) if one]
            held += admitted
            _say(len(admitted))
        else:
            for _ in range(int(count)):
                await held.pop().release()
            _say(int(count))
    await limits.aclose()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2]), msgspec.json.decode(sys.argv[3], type=Quotas)))
