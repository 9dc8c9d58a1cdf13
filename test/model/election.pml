/*
 * Rules 1 to 10 of election/README.md for three nodes and one address, small enough to be searched
 * to the end. README.md here says what is left out, what is assumed, and what is shown.
 *
 * One tick is half an advert interval. Within a tick everything that is due happens in any order,
 * and a fault may come between any two steps; the tick itself waits until nothing is due. What is
 * sent is heard before anything else happens, by whoever is connected and runs; a paused node
 * finds the last advert of each sender when it goes on, before its timers.
 *
 * -DFAULTS=n and the kinds that may be drawn (-DCRASH ...) make a configuration, -DNO_... takes a
 * rule out, -DTWO=n says for how many ticks two may answer one client: 0 means never.
 */

/* Ticks. The order of the deadlines is that of the code, see timing in README.md. */
#define ADVERT  2  /* the interval */
#define FENCE   5  /* 2.5 intervals: the kernel stops answering */
#define MISSED  4  /* 2.1 and three questions: whose node answers nothing is gone. Early here, or in no time */
#define SUSPECT 5  /* 2.6: just after the fence, everybody is asked who answers */
#define SILENCE 6  /* 3 + skew */
#define LATE    3  /* 1.5 intervals after a deadline nothing is believed any more: rule 8 */
#define RECENT  6  /* heard within 3 intervals: in the term before, too */
#define BOUND   3  /* 150 ms for a claim: rule 4 */
#define PROVE   2  /* for a write that decides between two confirmed owners: rule 5 */
#define GIVEUP  8  /* a write that was never answered is forgotten */
#define LOOK    4  /* an owner asks its witnesses (in truth 20, which is as much longer) */
#define LEASE   12 /* expires (in truth 600: later than everything else) */

#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef TWO
#define TWO 0
#endif
#ifndef SETTLE
#define SETTLE 14 /* from the end of all faults to one owner */
#endif
#define QUIET (SETTLE + 8) /* and it stays */

#define GRACE  4  /* an owner without gateway or quorum asks to be relieved (in truth 60) */
#define MOVE   6  /* for a successor to claim it (in truth 20) */
#define LINGER 3  /* 1.5 intervals: then who resigned and heard nobody takes it back */

#if defined(HANDOVER) || defined(GATEWAY) || defined(DEAF)
#define OFFERS /* the Lease may name a successor, or ask for relief: rules 9 and 10 */
#endif
#if defined(DEAF) || defined(DUMB) || defined(ONEWAY)
#define ONE_WAY
#endif

#define N      3
#define NOBODY 3

/* A process */
#define RUN    0
#define PAUSED 1
#define DEAD   2

/* An advert under way */
#define NONE        0
#define UNCONFIRMED 1
#define CONFIRMED   2
#define ZERO        3

/* States of the elector that rules 1 to 8 need */
#define STARTING  0
#define FOLLOWING 1
#define CLAIMING  2
#define OWNING    3
#define LEAVING   4 /* resigned, and the fence is open until the successor is heard */

/* A write under way */
#define SENT     1
#define LANDED   2
#define CONFLICT 3

/* --- the world --- */
byte proc[N];
byte fence[N];      /* the kernel answers for so many ticks more */
byte mail[9];       /* [to * 3 + from]: adverts not read yet, the last of each sender */
byte alone = NOBODY;    /* cut off from the two others */
byte between = NOBODY;  /* hears both others, which do not hear each other */
byte mute = NOBODY;     /* its multicast is lost, its unicast is not */
#ifdef ONE_WAY
byte deaf = NOBODY;     /* hears nothing, and is heard */
byte dumb = NOBODY;     /* is not heard, and hears */
byte unheard = NOBODY;  /* is not heard by `by`, and hears it */
byte by = NOBODY;
byte going[N];          /* ticks for which a weaker rival has gone on */
#endif
#ifdef OFFERS
byte succ = NOBODY;     /* the Lease names it */
bit degraded;           /* the Lease asks for relief */
byte saw_succ[N], w_succ[N]; /* as seen; as in the write under way */
bit saw_degraded[N], w_degraded[N];
byte lacks[N];          /* ticks for which an owner has been without gateway or quorum */
byte moving[N];         /* ticks since it was ordered to hand over; 0: it was not */
byte target[N];
byte leaver[N] = NOBODY; /* resigned, and answers until the next one is heard */
bit linger[N];          /* the kernel closes the fence as soon as the successor is heard */
byte orders = 1;
#endif
#ifdef GATEWAY
bit gone[N];            /* it does not see the gateway */
#endif
bit api[N];         /* it can reach the API server */
byte holder = NOBODY;
byte term;
byte faults = FAULTS;
bit calm;           /* no fault any more, and all are healed */
byte since;         /* that */

/* --- what a node knows; names as in election/elector.h --- */
byte st[N];
byte speaker[N];
byte sil[N];        /* ticks of silence */
byte adv[N];        /* ticks since its last advert */
byte recent[9];     /* [self * 3 + other]: heard, for so many ticks more recent */
byte age[N];        /* ticks since it saw the Lease change, or since it started */
byte saw_holder[N], saw_term[N];
byte own_term[N];   /* of the Lease when it took the address */
byte proved[N];     /* ticks since the Lease last confirmed it */
byte look[N], misses[N];
byte lone[N];       /* ticks of silence without quorum */
byte waited[N];     /* ticks since the write */
bit seen[N], confirmed[N], claimed[N], proving[N], heard_in_term[N], ever[N], offered[N];
bit suspected[N], silent[N], witnessed[N], watched[N], contact[N], reachable[N], writing[N];

/* --- between a node and the API server --- */
byte write[N];
bit current[N];     /* the Lease it saw is the Lease as it is */
bit matches[N];     /* what its write expects is, or after it landed: nobody wrote since */
bit newer[N];       /* the answer tells more than the watch has told */
byte landed_term[N];
bit due[N];         /* there is something to read */
bit slow[N], slow_matches[N], slow_last[N]; /* a write that lands when it likes */

byte n, m;          /* whose turn it is; 0 between the steps */
byte p, k, x_holder, x_term; /* within a step, 0 between */
bit b, two_answer;
#ifdef OFFERS
byte x_succ;
bit x_degraded, lasting, gap;
#endif

#ifdef COUNT_MOVES
byte moves;
#endif
byte dual;

#ifdef PAIR
#define GONE(i) ((i) == 2) /* there are two candidates only */
#else
#define GONE(i) false
#endif

#define JOINED(i, j) ((alone == NOBODY || (alone != (i) && alone != (j))) && \
		      (between == NOBODY || between == (i) || between == (j)))
#define LINK(i, j) (!GONE(i) && !GONE(j) && JOINED(i, j))
#define NEXT(i)    (((i) + 1) % 3)
#define LAST(i)    (((i) + 2) % 3)
#define ANSWERS(i) (fence[i] > 0)
#ifdef ONE_WAY
#define HEARS(i, j) (LINK(i, j) && deaf != (i) && dumb != (j) && !(unheard == (j) && by == (i)))
#define REACHED(i)  (deaf != (i) && dumb != (i)) /* by clients, who need both ways */
#else
#define HEARS(i, j) LINK(i, j)
#define REACHED(i)  true
#endif
#define ASKS(i, j)  (HEARS(i, j) && HEARS(j, i))
#define HELD_BY(i, j) (ANSWERS(j) && ASKS(i, j))
#define HELD(i)    (HELD_BY(i, NEXT(i)) || HELD_BY(i, LAST(i)))

/* Rule 6: two of three; with the gateway three of four, or two if that is one of them. */
#if defined(NO_QUORUM) || defined(PAIR)
#define QUORUM(i) true
#elif defined(GATEWAY)
#define QUORUM(i) ((ASKS(i, NEXT(i)) && ASKS(i, LAST(i))) || \
		   (!gone[i] && (ASKS(i, NEXT(i)) || ASKS(i, LAST(i)))))
#else
#define QUORUM(i) (ASKS(i, NEXT(i)) || ASKS(i, LAST(i)))
#endif
#ifdef GATEWAY
#define GATE(i) (!gone[i])
#else
#define GATE(i) true
#endif
#ifdef BLIND /* who relieves does not look whether it is better off */
#define CAN_RELIEVE(i) true
#else
#define CAN_RELIEVE(i) (QUORUM(i) && GATE(i))
#endif

#ifdef NO_HEARD
#define HEARD_IN_TERM(i) true
#else
#define HEARD_IN_TERM(i) (heard_in_term[i])
#endif

#define RUNS(i)        (proc[i] == RUN)
#define LISTENS(i)     (st[i] == STARTING || st[i] == FOLLOWING)
#define COORDINATED(i) (seen[i] && reachable[i])
#define HOLDS(i, j)    (seen[i] && saw_holder[i] == (j))
#define UNHELD(i)      (seen[i] && saw_holder[i] == NOBODY)
/* Rule 2: how long the Lease of a silent owner is respected; without any Lease, the cold start. */
#define ALLOWED(i) ((seen[i] && (UNHELD(i) || saw_holder[i] == (i) || HEARD_IN_TERM(i))) || \
		    age[i] >= LEASE)
/* A named successor waits for its answer while the owner serves: rule 10. */
#define PATIENCE(i) (NAMED(i) && !silent[i] -> MOVE : BOUND)
#define WRITE_PENDING(i) (writing[i] && waited[i] <= BOUND)
#define FIRST_WITHOUT(i, j) (3 - (i) - (j) > (i)) /* nobody but j comes before i */
#ifdef OFFERS
#define NAMED(i)    (seen[i] && saw_succ[i] == (i) && !HOLDS(i, i) && !UNHELD(i))
#define RELIEVES(i) (seen[i] && saw_degraded[i] && !HOLDS(i, i) && !UNHELD(i))
#else
#define NAMED(i)    false
#define RELIEVES(i) false
#endif

/* --- adverts --- */
inline post(i, j, what) {
	if
	:: HEARS(j, i) && mute != (i) && proc[j] != DEAD -> mail[(j) * 3 + (i)] = what
	:: else
	fi;
#ifdef OFFERS
	if /* the kernel does that, whatever became of the process */
	:: HEARS(j, i) && mute != (i) && what != ZERO && linger[j] -> fence[j] = 0; linger[j] = 0
	:: else
	fi
#endif
}

/* Rule 1: the advert itself keeps the fence open. */
inline say(i, what) {
	if
#ifdef OFFERS
	:: what == ZERO && linger[i]
#endif
#ifdef OFFERS
	:: what == ZERO && !linger[i] -> fence[i] = 0
	:: else -> fence[i] = FENCE; adv[i] = 0; linger[i] = 0
#else
	:: what == ZERO -> fence[i] = 0
	:: else -> fence[i] = FENCE; adv[i] = 0
#endif
	fi;
	post(i, NEXT(i), what);
	post(i, LAST(i), what)
}

inline advertise(i) {
	if
	:: confirmed[i] -> say(i, CONFIRMED)
	:: else -> say(i, UNCONFIRMED)
	fi
}

/* --- states --- */
inline become_following(i) {
	st[i] = FOLLOWING;
	confirmed[i] = 0; claimed[i] = 0; proving[i] = 0; offered[i] = 0;
	look[i] = 0; misses[i] = 0; watched[i] = 0; proved[i] = 0; own_term[i] = 0; adv[i] = 0;
#ifdef OFFERS
	lacks[i] = 0; moving[i] = 0; target[i] = NOBODY;
#endif
#ifdef ONE_WAY
	going[i] = 0;
#endif
}

inline listen_anew(i) {
	sil[i] = 0; suspected[i] = 0; silent[i] = 0; witnessed[i] = 0; lone[i] = 0
}

inline become_owning(i, sure) {
	st[i] = OWNING;
	confirmed[i] = sure; own_term[i] = saw_term[i]; proved[i] = 0;
	claimed[i] = 0; proving[i] = 0; offered[i] = 0; speaker[i] = NOBODY;
	listen_anew(i);
	witnessed[i] = 1; look[i] = 0; misses[i] = 0; watched[i] = 0;
	assert(!(calm && since >= SETTLE)); /* all is quiet, and it moves */
#ifdef COUNT_MOVES
	moves++;
	assert(moves <= COUNT_MOVES);
#endif
	advertise(i)
}

/* At once, and without a word: rules 5, 6, 8. */
inline yield(i) {
	fence[i] = 0;
	become_following(i);
	listen_anew(i)
}

#ifdef OFFERS
#define NOTHING_OFFERED(i) w_succ[i] = NOBODY; w_degraded[i] = 0
#else
#define NOTHING_OFFERED(i) skip
#endif

inline put_write(i) {
	NOTHING_OFFERED(i);
	writing[i] = 1; waited[i] = 0; slow_last[i] = 0;
	newer[i] = 0; landed_term[i] = 0;
	if
	:: api[i] -> write[i] = SENT; matches[i] = current[i]
	:: else -> write[i] = NONE; matches[i] = 0
	fi
}

inline become_claiming(i) {
	st[i] = CLAIMING; claimed[i] = 0; offered[i] = 0;
	put_write(i)
}

inline doubt(i) {
	if
	:: st[i] == OWNING -> confirmed[i] = 0; proving[i] = 0; proved[i] = 0
	:: else
	fi
}

inline try_confirm(i) {
	if
	:: st[i] == OWNING && !writing[i] && COORDINATED(i) && !HOLDS(i, i) -> put_write(i)
	:: else
	fi
}

inline distrust(i) {
	reachable[i] = 0;
	if
	:: contact[i] -> due[i] = 1
	:: else
	fi
}

/* Rule 4: no answer, so the LAN decides. */
inline fall_back(i) {
	if
	:: speaker[i] == NOBODY && witnessed[i] -> become_owning(i, 0)
	:: else -> become_following(i); listen_anew(i)
	fi
}

/* Make before break: resigned, but it answers until the successor is heard. Rule 10. */
inline become_leaving(i) {
#ifndef NO_LINGER
	linger[i] = 1;
#endif
	say(i, ZERO);
	become_following(i);
	listen_anew(i);
	st[i] = LEAVING
}

/* Rules 3, 9 and 10. */
inline consider(i) {
	if
	:: LISTENS(i) && COORDINATED(i) && !writing[i] && (NAMED(i) || RELIEVES(i)) ->
		offered[i] = 1; witnessed[i] = QUORUM(i)
	:: LISTENS(i) && COORDINATED(i) && !writing[i] && speaker[i] == NOBODY &&
	   (UNHELD(i) || HOLDS(i, i)) -> offered[i] = 1; witnessed[i] = QUORUM(i)
	:: else
	fi
}

/* --- the Lease --- */
inline win(i) {
	if
	:: claimed[i]
	:: !claimed[i] && speaker[i] == NOBODY -> become_owning(i, 1)
	:: else -> claimed[i] = 1; sil[i] = 0; suspected[i] = 0; silent[i] = 0
	fi
}

/* x_holder, x_term: what it says. */
inline learn(i) {
#ifdef OFFERS
	/* k: who may have it from us, as we last saw or wanted it */
	k = NOBODY;
	if
	:: st[i] == OWNING && HOLDS(i, i) && saw_succ[i] != NOBODY -> k = saw_succ[i]
	:: st[i] == OWNING && !(HOLDS(i, i) && saw_succ[i] != NOBODY) && moving[i] -> k = target[i]
	:: else
	fi;
	if
	:: st[i] == OWNING && HOLDS(i, i) && (saw_degraded[i] || w_degraded[i]) && x_holder != NOBODY && x_holder != i -> k = x_holder
	:: else
	fi;
	saw_succ[i] = x_succ; saw_degraded[i] = x_degraded;
#endif
	b = !seen[i] || saw_term[i] != x_term || saw_holder[i] != x_holder;
	age[i] = 0;
	if
	:: !seen[i] && st[i] == OWNING -> own_term[i] = x_term
	:: else
	fi;
	seen[i] = 1; saw_holder[i] = x_holder; saw_term[i] = x_term;
	if
	:: b && x_holder != NOBODY && x_holder != i -> heard_in_term[i] = (recent[i * 3 + x_holder] > 0)
	:: b && (x_holder == NOBODY || x_holder == i) -> heard_in_term[i] = 0
	:: else
	fi;
	if
	:: st[i] == OWNING && HOLDS(i, i) ->
		confirmed[i] = 1; own_term[i] = saw_term[i]; proved[i] = 0
	:: st[i] == OWNING && !HOLDS(i, i) ->
#ifndef NO_DEPOSED
		if
#ifdef OFFERS
		:: saw_holder[i] == k && k != NOBODY -> become_leaving(i)
		:: !(saw_holder[i] == k && k != NOBODY) && saw_holder[i] != NOBODY && saw_term[i] > own_term[i] -> /* rule 7 */
#else
		:: saw_holder[i] != NOBODY && saw_term[i] > own_term[i] -> /* rule 7 */
#endif
			say(i, ZERO);
			yield(i)
		:: else -> doubt(i); try_confirm(i)
		fi
#else
		skip
#endif
	:: st[i] == CLAIMING && HOLDS(i, i) -> win(i)
	:: st[i] == CLAIMING && !HOLDS(i, i) ->
		if
		:: claimed[i] -> become_following(i); listen_anew(i)
		:: else
		fi
	:: LISTENS(i) -> become_following(i); consider(i)
#ifdef OFFERS
	:: st[i] == LEAVING
#endif
	fi
}

/* The server's side of a write: compare-and-swap. `how` and `what` are of the write. */
inline land(i, how, what) {
#ifdef NO_CAS
	b = 1;
#else
	b = what;
#endif
	if
	:: b ->
		if
		:: holder != i -> holder = i; term++
		:: else
		fi;
		assert(term < 250);
#ifdef OFFERS
		succ = w_succ[i]; degraded = w_degraded[i];
#endif
		current[0] = 0; current[1] = 0; current[2] = 0;
		matches[0] = 0; matches[1] = 0; matches[2] = 0;
		slow_matches[0] = 0; slow_matches[1] = 0; slow_matches[2] = 0;
		due[0] = (proc[0] != DEAD); due[1] = (proc[1] != DEAD); due[2] = (proc[2] != DEAD);
		if
		:: how -> write[i] = LANDED; matches[i] = 1; newer[i] = 1; landed_term[i] = term
		:: else
		fi
	:: !b && how -> write[i] = CONFLICT
	:: else
	fi
}

inline do_land(i) {
	land(i, true, matches[i])
}

inline do_slow(i) {
	slow[i] = 0;
	k = slow_last[i]; slow_last[i] = 0;
	land(i, k, slow_matches[i]);
	slow_matches[i] = 0
}

#ifdef OFFERS
#define TOLD(what, how) x_succ = what; x_degraded = how
#else
#define TOLD(what, how) skip
#endif

inline do_lease(i) {
	x_holder = holder; x_term = term;
	TOLD(succ, degraded);
	current[i] = 1; newer[i] = 0; due[i] = 0; reachable[i] = 1;
	learn(i)
}

inline do_answer(i) {
	writing[i] = 0; waited[i] = 0; proving[i] = 0; reachable[i] = 1;
	p = write[i]; write[i] = NONE;
	if
	:: p == LANDED ->
		if
		:: newer[i] -> x_holder = i; x_term = landed_term[i]; current[i] = matches[i]; TOLD(w_succ[i], w_degraded[i])
		:: else -> x_holder = saw_holder[i]; x_term = saw_term[i]; TOLD(saw_succ[i], saw_degraded[i])
		fi;
		newer[i] = 0; landed_term[i] = 0; matches[i] = 0;
		learn(i);
		if
		:: st[i] == CLAIMING && !HOLDS(i, i) -> become_following(i); listen_anew(i)
		:: else
		fi
	:: else ->
		if
		:: st[i] == OWNING -> due[i] = 1
		:: st[i] == CLAIMING && !claimed[i] ->
			become_following(i); listen_anew(i);
			due[i] = 1
		:: else
		fi
	fi
}

/* The connection broke: whether it landed is not known. */
inline do_unknown(i) {
	writing[i] = 0; waited[i] = 0; proving[i] = 0;
	distrust(i);
	if
	:: st[i] == OWNING -> doubt(i)
	:: st[i] == CLAIMING && !claimed[i] -> fall_back(i)
	:: else
	fi
}

inline do_back(i) {
	b = reachable[i];
	contact[i] = 1; reachable[i] = 1;
	if
	:: !b && st[i] == OWNING && seen[i] -> due[i] = 1
	:: !b && st[i] != OWNING -> consider(i)
	:: else
	fi
}

inline do_away(i) {
	contact[i] = 0; reachable[i] = 0; offered[i] = 0;
	doubt(i)
}

/* --- what is heard --- */
inline prove(i) {
	if
	:: !proving[i] && proved[i] >= 2 * ADVERT && !WRITE_PENDING(i) -> put_write(i); proving[i] = 1
	:: else
	fi
}

/* Rule 5. Priorities are by number, the first is the best. */
inline rival(i, j) {
#ifndef NO_RIVAL
	b = (p == CONFIRMED && !confirmed[i]) || ((p == CONFIRMED) == confirmed[i] && j < i);
	if
	:: !b -> advertise(i)
	:: else
	fi;
#ifdef ONE_WAY
	/* Weaker, and it goes on: it does not hear us. A confirmed owner wants to see it answer, too. */
	if
	:: b || (confirmed[i] && p == CONFIRMED) || recent[i * 3 + j] + 2 * ADVERT < RECENT -> going[i] = 0
	:: else
	fi;
#ifndef NO_YIELD_TO_DEAF
	if
	:: !b && !(confirmed[i] && p == CONFIRMED) && going[i] >= LATE && ANSWERS(j) -> yield(i); due[i] = 1
	:: else
	fi;
#endif
	if
	:: !b && !(confirmed[i] && p == CONFIRMED) && st[i] == OWNING && !going[i] -> going[i] = 1
	:: else
	fi;
#endif
	if
	:: confirmed[i] && p == CONFIRMED -> prove(i)
	:: !(confirmed[i] && p == CONFIRMED) && b ->
		advertise(i); /* that the stronger one may know of us */
		yield(i);
		due[i] = 1
	:: else
	fi
#else
	skip
#endif
}

inline resigned(i, j) {
	if
	:: speaker[i] == j -> sil[i] = SILENCE; suspected[i] = 0
	:: else
	fi;
	if
	:: speaker[i] == j || HOLDS(i, j) ->
		speaker[i] = NOBODY;
#ifdef OFFERS
		leaver[i] = j;
#endif
#ifndef NO_END_OF_TERM
		recent[i * 3 + j] = 0; /* nor was it heard in a term that it may begin now */
#endif
		if
		:: st[i] == CLAIMING && claimed[i] -> become_owning(i, 1)
		:: st[i] == CLAIMING && !claimed[i] && NAMED(i) -> become_owning(i, 0)
		:: LISTENS(i) && COORDINATED(i) ->
			if
			:: HOLDS(i, j) && !HELD_BY(i, j) && HEARD_IN_TERM(i) && FIRST_WITHOUT(i, j) && !writing[i] ->
				become_claiming(i)
			:: else -> consider(i)
			fi
		:: LISTENS(i) && !COORDINATED(i) && seen[i] && FIRST_WITHOUT(i, j) -> become_owning(i, 0)
		:: else
		fi
	:: else
	fi
}

inline note(i, j) {
	recent[i * 3 + j] = RECENT; ever[i] = 1;
	if
	:: st[i] != OWNING -> speaker[i] = j
	:: else
	fi
}

inline hear(i, j) {
	p = mail[i * 3 + j]; mail[i * 3 + j] = NONE;
	if
	:: p == ZERO && st[i] == OWNING -> advertise(i)
	:: p == ZERO && st[i] != OWNING -> resigned(i, j)
	:: else ->
		if
		:: st[i] == OWNING -> rival(i, j)
		:: st[i] == CLAIMING || (LISTENS(i) && offered[i] && (NAMED(i) || RELIEVES(i)) && HOLDS(i, j)) ->
			sil[i] = 0; suspected[i] = 0; silent[i] = 0; lone[i] = 0
		:: else -> become_following(i); listen_anew(i)
		fi;
		note(i, j);
#ifdef OFFERS
		if
		:: leaver[i] == j -> leaver[i] = NOBODY
		:: else
		fi;
#endif
		if
		:: HOLDS(i, j) -> heard_in_term[i] = 1
		:: else
		fi
	fi
}

#ifdef OFFERS
#define LEFT(i, j) (leaver[i] == (j))
#else
#define LEFT(i, j) false
#endif

/* j answers for the address although its adverts are not heard: rule 2. */
inline held(i, j) {
	if
	:: st[i] == OWNING || claimed[i] || (offered[i] && seen[i]) || LEFT(i, j)
	:: else ->
		lone[i] = 0;
		note(i, j);
		if
		:: LISTENS(i) -> become_following(i); listen_anew(i)
		:: else
		fi
	fi
}

/* Witnesses, and whoever has the address, are asked. */
inline ask(i) {
	witnessed[i] = QUORUM(i);
#ifndef NO_HELD
	if
	:: HELD_BY(i, NEXT(i)) -> k = NEXT(i); held(i, k)
	:: !HELD_BY(i, NEXT(i)) && HELD_BY(i, LAST(i)) -> k = LAST(i); held(i, k)
	:: else
	fi
#endif
}

/* --- time --- */
inline do_suspect(i) {
	suspected[i] = 1;
	if
	:: contact[i] && !reachable[i] -> due[i] = 1
	:: else
	fi;
	ask(i)
}

/* Its fence is nothing to wait for, if its node does not answer for itself. */
inline do_absent(i) {
	witnessed[i] = 1;
	silent[i] = 1; speaker[i] = NOBODY
}

inline do_silence(i) {
	silent[i] = 1; speaker[i] = NOBODY;
	if
	:: st[i] == CLAIMING && claimed[i] -> become_owning(i, 1)
	:: else
	fi
}

inline do_try(i) {
	b = witnessed[i];
	if
	:: !b || !ever[i] -> ask(i)
	:: else
	fi;
	if
	:: !silent[i] || !LISTENS(i) /* somebody has it */
	:: silent[i] && LISTENS(i) && !b && lone[i] > 2 * ADVERT + 2 ->
		listen_anew(i) /* back among the others: an owner that they have must be heard */
	:: else ->
		if
		:: !COORDINATED(i) || writing[i] -> become_owning(i, 0)
		:: else -> become_claiming(i)
		fi
	fi
}

inline do_offer(i) {
	become_claiming(i)
}

#ifdef OFFERS
/* An order from outside, to the next one. */
inline do_order(i) {
	orders = 0;
	if
#ifndef BREAK_FIRST
	:: COORDINATED(i) && confirmed[i] ->
		target[i] = NEXT(i); moving[i] = 1;
		if
		:: !writing[i] -> put_write(i); w_succ[i] = target[i]
		:: else
		fi
#endif
	:: else -> become_leaving(i) /* by the LAN alone */
	fi
}

inline do_name(i) {
	put_write(i); w_succ[i] = target[i]
}

inline do_give_up(i) {
	moving[i] = 0; target[i] = NOBODY;
	if
	:: !writing[i] && COORDINATED(i) && HOLDS(i, i) -> put_write(i)
	:: else
	fi
}

/* Nobody was heard. Who was relieved, or reaches nobody, is deaf rather than the last one. */
inline do_end_leaving(i) {
	if
	:: !QUORUM(i) || !GATE(i) -> become_following(i)
	:: QUORUM(i) && GATE(i) && COORDINATED(i) && !writing[i] -> become_claiming(i); speaker[i] = NOBODY
	:: else -> become_owning(i, 0)
	fi
}

/* Rule 9: asks to be relieved, or not any more; and what was named and given up is taken back. */
inline do_mark(i) {
	put_write(i);
	w_degraded[i] = (lacks[i] >= GRACE)
}
#endif

inline do_advert(i) {
	advertise(i)
}

inline do_prove(i) {
	doubt(i);
	advertise(i)
}

inline do_bound(i) {
	distrust(i);
	fall_back(i)
}

inline do_giveup(i) {
	writing[i] = 0; waited[i] = 0
}

/* Rule 6 for an owner. */
inline do_look(i) {
	if
	:: !watched[i] || witnessed[i] -> misses[i] = 0
	:: else -> misses[i]++
	fi;
	watched[i] = 1; look[i] = 0; witnessed[i] = QUORUM(i);
	if
	:: witnessed[i] -> misses[i] = 0
	:: else
	fi;
	if
	:: misses[i] >= 2 && !COORDINATED(i) -> yield(i)
	:: else ->
		if
		:: misses[i] > 2 -> misses[i] = 2
		:: else
		fi;
		if
		:: contact[i] && !reachable[i] -> due[i] = 1
		:: else
		fi;
		try_confirm(i)
	fi
}

inline up_to(what, limit) {
	if
	:: what < limit -> what++
	:: else
	fi
}

inline down(what) {
	if
	:: what > 0 -> what--
	:: else
	fi
}

#define RENEWED(i) (api[i] && seen[i] && holder != NOBODY && RUNS(holder) && api[holder]) /* its node lives */

inline pass(i) {
#ifndef NO_FENCE
	down(fence[i]);
#endif
	if
	:: proc[i] == DEAD
	:: else ->
		down(recent[i * 3 + NEXT(i)]);
		down(recent[i * 3 + LAST(i)]);
		if
		:: st[i] == OWNING ->
			up_to(adv[i], FENCE);
			up_to(look[i], LOOK);
			up_to(proved[i], 2 * ADVERT);
#ifdef OFFERS
			if
			:: QUORUM(i) && GATE(i) -> lacks[i] = 0
			:: else -> up_to(lacks[i], GRACE)
			fi;
			if
			:: moving[i] -> up_to(moving[i], MOVE)
			:: else
			fi;
#endif
#ifdef ONE_WAY
			if
			:: going[i] -> up_to(going[i], LATE)
			:: else
			fi;
#endif
			skip
		:: else -> up_to(sil[i], SILENCE + LATE)
		fi;
		if
		:: RENEWED(i) || UNHELD(i) || HOLDS(i, i) || st[i] == OWNING -> age[i] = 0
		:: else -> up_to(age[i], LEASE)
		fi;
		if
		:: writing[i] -> up_to(waited[i], GIVEUP)
		:: else
		fi;
		if
		:: silent[i] && !witnessed[i] -> up_to(lone[i], 2 * ADVERT + 3)
		:: else
		fi
	fi
}

/* --- processes --- */
inline forget(i) {
	become_following(i);
	listen_anew(i);
	st[i] = STARTING; speaker[i] = NOBODY;
	recent[i * 3 + 0] = 0; recent[i * 3 + 1] = 0; recent[i * 3 + 2] = 0;
	mail[i * 3 + 0] = 0; mail[i * 3 + 1] = 0; mail[i * 3 + 2] = 0;
	age[i] = 0; saw_holder[i] = NOBODY; saw_term[i] = 0; waited[i] = 0;
	seen[i] = 0; heard_in_term[i] = 0; ever[i] = 0; contact[i] = 0; reachable[i] = 0; writing[i] = 0;
	write[i] = NONE; current[i] = 0; matches[i] = 0; newer[i] = 0; landed_term[i] = 0; due[i] = 0;
	slow_last[i] = 0;
#ifdef OFFERS
	leaver[i] = NOBODY; saw_succ[i] = NOBODY; saw_degraded[i] = 0; w_succ[i] = NOBODY; w_degraded[i] = 0;
#endif
	skip
}

inline do_crash(i) {
	forget(i);
	proc[i] = DEAD
}

/* With the fence just refreshed, nobody can have taken it over: it goes on. */
inline do_restart(i) {
	proc[i] = RUN; due[i] = 1;
	if
	:: fence[i] == FENCE -> become_owning(i, 0)
	:: else
	fi
}

/* Rule 8. */
inline do_resume(i) {
	proc[i] = RUN;
	if
#ifndef NO_OVERSLEPT
	:: st[i] == OWNING && adv[i] >= FENCE -> yield(i)
	:: st[i] == LEAVING && sil[i] >= LINGER + LATE -> become_following(i); listen_anew(i)
#endif
	:: st[i] == CLAIMING && ((!claimed[i] && waited[i] >= PATIENCE(i) + LATE) ||
				 (claimed[i] && sil[i] >= SILENCE + LATE)) ->
		become_following(i); listen_anew(i)
	:: LISTENS(i) && !silent[i] && sil[i] >= SILENCE + LATE -> offered[i] = 0; listen_anew(i)
	:: else
	fi
}

inline do_cut_api(i) {
	api[i] = 0; write[i] = NONE; matches[i] = 0; newer[i] = 0; landed_term[i] = 0
}

/* --- what is due --- */
#define MAIL_OF(i) (RUNS(i) && (mail[(i) * 3 + NEXT(i)] || mail[(i) * 3 + LAST(i)]))
#define MAIL       (MAIL_OF(0) || MAIL_OF(1) || MAIL_OF(2))

#define LAND(i)    (write[i] == SENT && api[i])
#define ANSWER(i)  (RUNS(i) && write[i] >= LANDED && api[i])
#define READ(i)    (RUNS(i) && due[i] && api[i])
#define BACK(i)    (RUNS(i) && api[i] && !contact[i])
#define SAY(i)     (RUNS(i) && st[i] == OWNING && adv[i] >= ADVERT)
#define LOOKS(i)   (RUNS(i) && st[i] == OWNING && look[i] >= LOOK)
#define UNPROVEN(i) (RUNS(i) && proving[i] && waited[i] >= PROVE)
#define OVERDUE(i) (RUNS(i) && st[i] == CLAIMING && !claimed[i] && waited[i] >= PATIENCE(i))
#define FORGOTTEN(i) (RUNS(i) && writing[i] && waited[i] >= GIVEUP && !OVERDUE(i))
#define SUSPECTS(i) (RUNS(i) && st[i] != OWNING && sil[i] >= SUSPECT && !suspected[i])
#define SILENT(i)  (RUNS(i) && st[i] != OWNING && sil[i] >= SILENCE && suspected[i] && !silent[i])
#define TRY(i)     (RUNS(i) && LISTENS(i) && silent[i] && ALLOWED(i) && (witnessed[i] || QUORUM(i)) && \
		    !(COORDINATED(i) && WRITE_PENDING(i)))
#define OFFER(i)   (RUNS(i) && offered[i] && LISTENS(i) && COORDINATED(i) && !writing[i] && \
		    ((speaker[i] == NOBODY && (UNHELD(i) || HOLDS(i, i)) && QUORUM(i) && \
		      (ever[i] || !HELD(i))) || NAMED(i) || (RELIEVES(i) && CAN_RELIEVE(i))))
#ifdef OFFERS
#define STEADY(i)  (RUNS(i) && st[i] == OWNING && confirmed[i] && COORDINATED(i) && !writing[i] && HOLDS(i, i))
#define ORDER(i)   (RUNS(i) && st[i] == OWNING && !moving[i] && orders && !calm)
#define NAME(i)    (STEADY(i) && moving[i] && saw_succ[i] != target[i])
#define GIVE_UP(i) (RUNS(i) && st[i] == OWNING && moving[i] >= MOVE)
#define END_LEAVING(i) (RUNS(i) && st[i] == LEAVING && sil[i] >= LINGER)
#ifndef NO_RELIEF
#define MARK(i)    (STEADY(i) && !moving[i] && (saw_succ[i] != NOBODY || saw_degraded[i] != (lacks[i] >= GRACE)))
#else
#define MARK(i)    (STEADY(i) && !moving[i] && saw_succ[i] != NOBODY)
#endif
#define MOVES(i)   (NAME(i) || GIVE_UP(i) || END_LEAVING(i) || MARK(i))
#else
#define MOVES(i)   false
#endif
#define BUSY(i)    (MOVES(i) || LAND(i) || ANSWER(i) || READ(i) || BACK(i) || SAY(i) || LOOKS(i) || UNPROVEN(i) || \
		    OVERDUE(i) || FORGOTTEN(i) || SUSPECTS(i) || SILENT(i) || TRY(i) || OFFER(i))

/* Not due, but possible. */
#define UNKNOWN(i) (RUNS(i) && writing[i] && write[i] == NONE && !(slow[i] && slow_last[i]))
#define AWAY(i)    (RUNS(i) && !api[i] && contact[i])
#define SLOW(i)    (slow[i] && api[i])
#ifdef NO_ABSENT /* nobody asks: two adverts missing are enough */
#define IS_ABSENT(i, j) true
#else
#define IS_ABSENT(i, j) (!ASKS(i, j))
#endif
#ifdef GATEWAY
#define OTHERS(i, j) (!gone[i] || ASKS(i, 3 - (i) - (j)))
#else
#define OTHERS(i, j) ASKS(i, 3 - (i) - (j)) /* its own link works */
#endif
#define ABSENT(i)  (RUNS(i) && LISTENS(i) && !silent[i] && sil[i] >= MISSED && speaker[i] != NOBODY && \
		    IS_ABSENT(i, speaker[i]) && OTHERS(i, speaker[i]) && QUORUM(i))

/* --- judge --- */
#define SIDE(i, j) (alone == NOBODY || (alone != (i) && alone != (j))) /* one client sees both */
#define SERVES(i) (ANSWERS(i) && REACHED(i))
#define BOTH(i, j) (SERVES(i) && SERVES(j) && SIDE(i, j))
#define DUAL       (BOTH(0, 1) || BOTH(0, 2) || BOTH(1, 2))
#define COUNT_ANSWERS (SERVES(0) + SERVES(1) + SERVES(2))

#ifdef ANYWHERE
byte everywhere;
#endif
#ifdef DARK
byte dark;
#endif
#ifdef WITHOUT
byte without; /* ticks for which who answers has no gateway, although another node has */
#define IN_VAIN(i, j) (SERVES(i) && gone[i] && !gone[j] && RUNS(j))
#define WORSE(i) (IN_VAIN(i, NEXT(i)) || IN_VAIN(i, LAST(i)))
#endif

inline judge_tick() {
#if TWO > 0
	if
	:: DUAL -> dual++; assert(dual <= TWO)
	:: else -> dual = 0
	fi;
#endif
#ifdef ANYWHERE /* clients on both sides of a split count */
	if
	:: COUNT_ANSWERS > 1 -> everywhere++; assert(everywhere <= ANYWHERE)
	:: else -> everywhere = 0
	fi;
#endif
#ifdef DARK
	if
	:: COUNT_ANSWERS == 0 -> dark++; assert(dark <= DARK)
	:: else -> dark = 0
	fi;
#endif
#ifdef WITHOUT
	if
	:: WORSE(0) || WORSE(1) || WORSE(2) -> without++; assert(without <= WITHOUT)
	:: else -> without = 0
	fi;
#endif
	if
	:: calm ->
		since++;
		assert(since < SETTLE || COUNT_ANSWERS == 1);
#ifdef OFFERS
		lasting = (degraded && since >= SETTLE);
		assert(!lasting);
#endif
		skip
	:: else
	fi;
	printf("tick; answering: %d%d%d, the Lease names n%d\n", ANSWERS(0), ANSWERS(1), ANSWERS(2), holder)
}

#ifdef NEVER_API
#define API_WELL true
#else
#define API_WELL (api[0] && api[1] && (api[2] || GONE(2)))
#endif
#ifdef ONE_WAY
#define ONE_WAY_WELL (deaf == NOBODY && dumb == NOBODY && unheard == NOBODY)
#else
#define ONE_WAY_WELL true
#endif
#ifdef GATEWAY
#define GATES_WELL (!gone[0] && !gone[1] && !gone[2])
#else
#define GATES_WELL true
#endif
#define ALL_WELL (ONE_WAY_WELL && GATES_WELL && RUNS(0) && RUNS(1) && (RUNS(2) || GONE(2)) && API_WELL && \
		  alone == NOBODY && between == NOBODY && mute == NOBODY && !slow[0] && !slow[1] && !slow[2])

#define MAY_FAIL (faults > 0 && !calm)
#define WHO(what) if :: what(0) -> n = 0 :: what(1) -> n = 1 :: what(2) -> n = 2 fi
#ifdef OFFERS
#define END_OFFERS x_succ = 0; x_degraded = 0
#else
#define END_OFFERS skip
#endif
#define END END_OFFERS; n = 0; m = 0; p = 0; k = 0; x_holder = 0; x_term = 0; b = 0
#define TELL(how) printf("n%d ", n); printf(#how); printf(": %d%d%d\n", st[n], confirmed[n], claimed[n])
#define ON(what, how) atomic { WHO(what); d_step { how(n); TELL(how); END } }
#define FAULT(what, how) atomic { if \
	:: MAY_FAIL && what(0) -> n = 0 :: MAY_FAIL && what(1) -> n = 1 :: MAY_FAIL && what(2) -> n = 2 fi; d_step { faults--; how(n); TELL(how); END } }

#define CAN_CRASH(i)  (proc[i] != DEAD)
#define IS_DEAD(i)    (proc[i] == DEAD && !GONE(i))
#define CAN_PAUSE(i)  (RUNS(i))
#define IS_PAUSED(i)  (proc[i] == PAUSED)
#define CAN_CUT(i)    (api[i] && !GONE(i))
#define IS_CUT(i)     (!api[i] && !GONE(i))
#define CAN_LOSE(i)   (write[i] != NONE)
#define CAN_SLOW(i)   (write[i] == SENT && !slow[i])
#define CAN_PART(i)   (alone == NOBODY && !GONE(i))
#define IS_APART(i)   (alone == (i))
#define CAN_MUTE(i)   (mute == NOBODY)
#define CAN_SPLIT(i)  (between == NOBODY)
#define CAN_DEAFEN(i) (deaf == NOBODY)
#define CAN_SILENCE(i) (dumb == NOBODY)
#define CAN_UNHEAR(i) (unheard == NOBODY)
#define CAN_LOSE_GATE(i) (!gone[i])
#define LOST_GATE(i)  (gone[i])

inline do_pause(i) { proc[i] = PAUSED }
inline do_mend_api(i) { api[i] = 1; due[i] = (proc[i] != DEAD) }
inline do_mend_all(i) { do_mend_api(0); do_mend_api(1); api[2] = !GONE(2); due[2] = (proc[2] != DEAD) }
inline do_lose(i) { write[i] = NONE; matches[i] = 0; newer[i] = 0; landed_term[i] = 0 }
inline do_delay(i) { slow[i] = 1; slow_matches[i] = matches[i]; slow_last[i] = 1; write[i] = NONE; matches[i] = 0 }
inline do_part(i) { alone = i }
inline do_heal(i) { alone = NOBODY }
inline do_mute(i) { mute = i }
inline do_split(i) { between = i }
inline do_deafen(i) { deaf = i }
inline do_silence_all(i) { dumb = i }
inline do_unhear_next(i) { unheard = i; by = NEXT(i) }
inline do_unhear_last(i) { unheard = i; by = LAST(i) }
inline do_lose_gate(i) { gone[i] = 1 }
inline do_lose_gates(i) { gone[0] = 1; gone[1] = 1; gone[2] = 1 }
inline do_find_gate(i) { gone[i] = 0 }
inline do_cut_all(i) { do_cut_api(0); do_cut_api(1); do_cut_api(2) }

active proctype cluster() {
	d_step {
		api[0] = 1; api[1] = 1; api[2] = 1;
		forget(0); forget(1); forget(2);
#ifdef COLD
		due[0] = 1; due[1] = 1; due[2] = 1;
#else
		holder = 0; term = 1;
		n = 0;
		do
		:: n < 3 ->
			st[n] = FOLLOWING; speaker[n] = 0; seen[n] = 1; saw_holder[n] = 0; saw_term[n] = 1;
			heard_in_term[n] = 1; ever[n] = 1; contact[n] = 1; reachable[n] = 1; current[n] = 1;
			recent[n * 3] = RECENT;
			n++
		:: else -> break
		od;
		n = 0;
#ifdef OFFERS
		saw_succ[0] = NOBODY; saw_succ[1] = NOBODY; saw_succ[2] = NOBODY;
#endif
		recent[0] = 0; heard_in_term[0] = 0; speaker[0] = NOBODY;
		st[0] = OWNING; confirmed[0] = 1; own_term[0] = 1; proved[0] = 2 * ADVERT;
		watched[0] = 1; witnessed[0] = 1; fence[0] = FENCE;
#endif
#if defined(NO_API) || defined(NEVER_API) /* from the beginning, and everybody knows */
		do_cut_all(0);
		do_away(0); do_away(1); do_away(2);
#endif
#ifdef PAIR
		do_crash(2);
		api[2] = 0;
#endif
		END
	}
	do
	:: atomic { MAIL ->
#ifdef NO_GAP
		gap = (COUNT_ANSWERS == 0);
		assert(!gap);
#endif
		if
		:: RUNS(0) && mail[1] -> n = 0; m = 1
		:: RUNS(0) && mail[2] -> n = 0; m = 2
		:: RUNS(1) && mail[3] -> n = 1; m = 0
		:: RUNS(1) && mail[5] -> n = 1; m = 2
		:: RUNS(2) && mail[6] -> n = 2; m = 0
		:: RUNS(2) && mail[7] -> n = 2; m = 1
		fi;
		if
		:: d_step { hear(n, m); printf("n%d hears n%d, then it is in state %d\n", n, m, st[n]); END }
#ifdef LOSS
		:: d_step { MAY_FAIL -> faults--; mail[n * 3 + m] = NONE; printf("an advert to n%d is lost\n", n); END }
#endif
		fi
	   }
	:: atomic { !MAIL ->
#if TWO == 0
		two_answer = DUAL;
		assert(!two_answer);
#endif
#ifdef NO_GAP
		gap = (COUNT_ANSWERS == 0);
		assert(!gap);
#endif
		if
		:: ON(LAND, do_land)
		:: ON(ANSWER, do_answer)
		:: ON(READ, do_lease)
		:: ON(BACK, do_back)
		:: ON(SAY, do_advert)
		:: ON(LOOKS, do_look)
		:: ON(UNPROVEN, do_prove)
		:: ON(OVERDUE, do_bound)
		:: ON(FORGOTTEN, do_giveup)
		:: ON(SUSPECTS, do_suspect)
		:: ON(SILENT, do_silence)
		:: ON(TRY, do_try)
		:: ON(OFFER, do_offer)
		:: ON(UNKNOWN, do_unknown)
		:: ON(AWAY, do_away)
		:: ON(SLOW, do_slow)
		:: ON(ABSENT, do_absent)
#ifdef OFFERS
		:: ON(NAME, do_name)
		:: ON(GIVE_UP, do_give_up)
		:: ON(END_LEAVING, do_end_leaving)
		:: ON(MARK, do_mark)
#endif
#ifdef HANDOVER
		:: ON(ORDER, do_order)
#endif
#ifdef LOSE_GATE
		:: FAULT(CAN_LOSE_GATE, do_lose_gate)
		:: ON(LOST_GATE, do_find_gate)
#endif
#ifdef LOSE_GATES
		:: FAULT(CAN_LOSE_GATE, do_lose_gates)
#endif
#ifdef DEAF
		:: FAULT(CAN_DEAFEN, do_deafen)
		:: d_step { deaf != NOBODY -> deaf = NOBODY }
#endif
#ifdef DUMB
		:: FAULT(CAN_SILENCE, do_silence_all)
		:: d_step { dumb != NOBODY -> dumb = NOBODY }
#endif
#ifdef ONEWAY
		:: FAULT(CAN_UNHEAR, do_unhear_next)
		:: FAULT(CAN_UNHEAR, do_unhear_last)
		:: d_step { unheard != NOBODY -> unheard = NOBODY; by = NOBODY }
#endif
#ifdef CRASH
		:: FAULT(CAN_CRASH, do_crash)
		:: ON(IS_DEAD, do_restart)
#endif
#ifdef PAUSE
		:: FAULT(CAN_PAUSE, do_pause)
		:: ON(IS_PAUSED, do_resume)
#endif
#ifdef API
		:: FAULT(CAN_CUT, do_cut_api)
#endif
#ifdef API_ALL
		:: FAULT(CAN_CUT, do_cut_all)
#endif
#ifdef NO_API
		:: d_step { !api[0] && !api[1] && (!api[2] || GONE(2)) -> do_mend_all(0); END }
#endif
#if defined(API) || defined(API_ALL)
		:: ON(IS_CUT, do_mend_api)
#endif
#ifdef LOST
		:: FAULT(CAN_LOSE, do_lose)
		:: FAULT(CAN_SLOW, do_delay)
#endif
#ifdef PART
		:: FAULT(CAN_PART, do_part)
		:: ON(IS_APART, do_heal)
#endif
#ifdef MUTE
		:: FAULT(CAN_MUTE, do_mute)
		:: d_step { mute != NOBODY -> mute = NOBODY }
#endif
#ifdef CUT
		:: FAULT(CAN_SPLIT, do_split)
		:: d_step { between != NOBODY -> between = NOBODY }
#endif
		:: d_step { !calm && ALL_WELL -> calm = 1; faults = 0 }
		:: d_step { since < QUIET && !BUSY(0) && !BUSY(1) && !BUSY(2) ->
			pass(0); pass(1); pass(2);
			judge_tick()
		   }
		:: since >= QUIET -> goto done
		fi
	   }
	od;
done:
	skip
}
