#include <stdlib.h>
#include <string.h>

#include "daemon/controller/leadership.h"
#include "test/unit/unit.h"

#define S BASE_USEC_PER_SEC

static struct leadership one(const char *identity)
{
	struct leadership_config config = { .lease_us = 6 * S, .renew_us = 4 * S, .retry_us = S };
	struct leadership leadership;

	snprintf(config.identity, sizeof config.identity, "%s", identity);
	leadership_init(&leadership, &config);
	return leadership;
}

static struct leadership_record lease(const char *holder, unsigned version)
{
	struct leadership_record record = { .exists = true, .duration_s = 6 };

	snprintf(record.holder, sizeof record.holder, "%s", holder);
	snprintf(record.version, sizeof record.version, "%u", version);
	return record;
}

static enum leadership_action feed(struct leadership *leadership, enum leadership_event_type type,
				   uint64_t now_us, const struct leadership_record *record,
				   bool answer)
{
	struct leadership_event event = {
		.type = type, .now_us = now_us, .record = record, .answer = answer
	};

	return leadership_step(leadership, &event);
}

static enum leadership_action tick(struct leadership *leadership, uint64_t now_us)
{
	return feed(leadership, LEADERSHIP_EVENT_TIMER, now_us, NULL, false);
}

/* Reads that there is no Lease and takes it at `now_us`; the answer comes at `answer_us`. */
static void lead(struct leadership *leadership, uint64_t now_us, uint64_t answer_us)
{
	struct leadership_record none = { 0 }, own = lease(leadership->config.identity, 1);

	assert_int_equal(tick(leadership, now_us), LEADERSHIP_ACTION_READ);
	assert_int_equal(feed(leadership, LEADERSHIP_EVENT_OBSERVED, now_us, &none, true),
			 LEADERSHIP_ACTION_WRITE);
	assert_false(leadership->write.exists);
	feed(leadership, LEADERSHIP_EVENT_WRITTEN, answer_us, &own, false);
}

static void test_deadline_counts_from_sending_not_from_the_answer(void **state)
{
	struct leadership a = one("a");

	(void)state;
	lead(&a, 10 * S, 13 * S); /* the answer took three seconds */
	assert_true(leadership_leads(&a, 13 * S));
	assert_true(leadership_leads(&a, 14 * S - 1));
	assert_false(leadership_leads(&a, 14 * S));
}

static void test_renewal_that_is_refused_ends_at_the_deadline(void **state)
{
	struct leadership a = one("a");

	(void)state;
	lead(&a, 10 * S, 10 * S);
	assert_int_equal(leadership_deadline(&a), 11 * S);
	assert_int_equal(tick(&a, 11 * S), LEADERSHIP_ACTION_WRITE);
	feed(&a, LEADERSHIP_EVENT_REFUSED, 12 * S, NULL, false);
	assert_true(leadership_leads(&a, 13 * S));
	assert_int_equal(tick(&a, 13 * S), LEADERSHIP_ACTION_WRITE);
	tick(&a, 14 * S);
	assert_int_equal(a.state, LEADERSHIP_STATE_FOLLOWING);
	assert_false(leadership_leads(&a, 14 * S));
}

static void test_follower_waits_for_what_it_saw_not_for_what_is_written(void **state)
{
	struct leadership b = one("b");
	struct leadership_record other = lease("a", 5);

	(void)state;
	tick(&b, 100 * S);
	assert_int_equal(feed(&b, LEADERSHIP_EVENT_OBSERVED, 100 * S, &other, true),
			 LEADERSHIP_ACTION_NONE);
	assert_int_equal(leadership_deadline(&b), 106 * S);
	other = lease("a", 6); /* renewed: the six seconds begin again */
	feed(&b, LEADERSHIP_EVENT_OBSERVED, 104 * S, &other, false);
	assert_int_equal(tick(&b, 106 * S), LEADERSHIP_ACTION_NONE);
	assert_int_equal(tick(&b, 110 * S), LEADERSHIP_ACTION_WRITE);
	assert_string_equal(b.write.holder, "b");
	assert_string_equal(b.write.version, "6");
	assert_int_equal(b.write.transitions, 1);
}

static void test_lease_that_was_given_back_is_taken_at_once(void **state)
{
	struct leadership b = one("b");
	struct leadership_record other = lease("a", 5), free_one = lease("", 6);

	(void)state;
	tick(&b, 100 * S);
	feed(&b, LEADERSHIP_EVENT_OBSERVED, 100 * S, &other, true);
	assert_int_equal(feed(&b, LEADERSHIP_EVENT_OBSERVED, 101 * S, &free_one, false),
			 LEADERSHIP_ACTION_WRITE);
}

static void test_watch_that_lags_does_not_depose(void **state)
{
	struct leadership b = one("b");
	struct leadership_record old = lease("a", 8), own = lease("b", 9);

	(void)state;
	tick(&b, 100 * S);
	feed(&b, LEADERSHIP_EVENT_OBSERVED, 100 * S, &(struct leadership_record){ 0 }, true);
	feed(&b, LEADERSHIP_EVENT_WRITTEN, 100 * S, &own, false);
	feed(&b, LEADERSHIP_EVENT_OBSERVED, 100 * S, &old, false);
	assert_true(leadership_leads(&b, 101 * S));
}

static void test_another_holder_deposes_whatever_the_clock_says(void **state)
{
	struct leadership a = one("a");
	struct leadership_record other = lease("b", 2);

	(void)state;
	lead(&a, 10 * S, 10 * S);
	feed(&a, LEADERSHIP_EVENT_OBSERVED, 11 * S - 1, &other, false);
	assert_false(leadership_leads(&a, 11 * S));
}

static void test_unclear_write_is_read_before_the_next(void **state)
{
	struct leadership a = one("a");
	struct leadership_record own = lease("a", 2);

	(void)state;
	lead(&a, 10 * S, 10 * S);
	assert_int_equal(tick(&a, 11 * S), LEADERSHIP_ACTION_WRITE);
	assert_int_equal(feed(&a, LEADERSHIP_EVENT_UNCLEAR, 13 * S, NULL, false),
			 LEADERSHIP_ACTION_READ);
	/* It had landed; the next write stands on what was read. */
	assert_int_equal(feed(&a, LEADERSHIP_EVENT_OBSERVED, 13 * S + 1, &own, true),
			 LEADERSHIP_ACTION_WRITE);
	assert_string_equal(a.write.version, "2");
	assert_int_equal(a.write.transitions, 0); /* the holder stays */
}

static void test_what_is_read_is_believed_though_versions_went_back(void **state)
{
	struct leadership a = one("a");
	struct leadership_record renewed = lease("a", 90), restored = lease("a", 40);
	struct leadership_record anew = lease("a", 41);

	(void)state;
	lead(&a, 10 * S, 10 * S);
	feed(&a, LEADERSHIP_EVENT_WRITTEN, 11 * S, &renewed, false);
	/* The server is gone for a while, and back as it was an hour ago. */
	tick(&a, 20 * S);
	assert_int_equal(a.state, LEADERSHIP_STATE_FOLLOWING);
	assert_int_equal(feed(&a, LEADERSHIP_EVENT_UNCLEAR, 20 * S, NULL, false),
			 LEADERSHIP_ACTION_READ);
	assert_int_equal(feed(&a, LEADERSHIP_EVENT_OBSERVED, 20 * S, &restored, true),
			 LEADERSHIP_ACTION_WRITE);
	assert_string_equal(a.write.version, "40");
	feed(&a, LEADERSHIP_EVENT_WRITTEN, 20 * S, &anew, false);
	assert_true(leadership_leads(&a, 20 * S));
}

static void test_release_gives_back_and_never_leads_again(void **state)
{
	struct leadership a = one("a");
	struct leadership_record own = lease("a", 2), free_one = lease("", 3);

	(void)state;
	lead(&a, 10 * S, 10 * S);
	assert_int_equal(tick(&a, 11 * S), LEADERSHIP_ACTION_WRITE);
	/* A renewal is under way: it is waited for, then taken back. */
	assert_int_equal(feed(&a, LEADERSHIP_EVENT_RELEASE, 11 * S, NULL, false),
			 LEADERSHIP_ACTION_NONE);
	assert_false(leadership_leads(&a, 11 * S));
	assert_int_equal(feed(&a, LEADERSHIP_EVENT_WRITTEN, 11 * S + 1, &own, false),
			 LEADERSHIP_ACTION_WRITE);
	assert_string_equal(a.write.holder, "");
	assert_int_equal(a.write.duration_s, 1);
	feed(&a, LEADERSHIP_EVENT_WRITTEN, 11 * S + 2, &free_one, false);
	assert_true(leadership_done(&a));
	assert_int_equal(tick(&a, 60 * S), LEADERSHIP_ACTION_NONE);
	assert_false(leadership_leads(&a, 60 * S));
}

/* Two of them and one Lease with compare-and-swap; answers take up to 2 s or get lost. */
static void test_two_never_lead_at_once(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 300; seed++) {
		struct leadership who[2] = { one("a"), one("b") };
		struct leadership_record real = { 0 };
		struct flight {
			enum leadership_action action;
			struct leadership_record write, result;
			uint64_t arrives_us, answers_us;
			bool applied, ok, lost;
		} flights[2] = { 0 };
		unsigned random = seed * 2654435761u, version = 0, led = 0;

		for (uint64_t now = S; now < 120 * S; now += S / 20) {
			for (int i = 0; i < 2; i++) {
				struct flight *flight = &flights[i];
				enum leadership_action action = LEADERSHIP_ACTION_NONE;

				random = random * 1664525u + 1013904223u;
				if (flight->action && !flight->applied &&
				    now >= flight->arrives_us) {
					flight->applied = true;
					flight->ok =
						flight->action == LEADERSHIP_ACTION_READ ||
						(flight->write.exists == real.exists &&
						 strcmp(flight->write.version, real.version) == 0);
					if (flight->action == LEADERSHIP_ACTION_WRITE &&
					    flight->ok) {
						real = flight->write;
						real.exists = true;
						snprintf(real.version, sizeof real.version, "%u",
							 ++version);
					}
					flight->result = real;
				}
				if (flight->action && flight->applied &&
				    now >= flight->answers_us) {
					enum leadership_action was = flight->action;

					flight->action = LEADERSHIP_ACTION_NONE;
					if (was == LEADERSHIP_ACTION_READ && !flight->lost)
						action = feed(&who[i], LEADERSHIP_EVENT_OBSERVED,
							      now, &flight->result, true);
					else if (was == LEADERSHIP_ACTION_READ)
						action = feed(&who[i], LEADERSHIP_EVENT_REFUSED,
							      now, NULL, false);
					else if (flight->lost || !flight->ok)
						action = feed(&who[i], LEADERSHIP_EVENT_UNCLEAR,
							      now, NULL, false);
					else
						action = feed(&who[i], LEADERSHIP_EVENT_WRITTEN,
							      now, &flight->result, false);
				} else if (now >= leadership_deadline(&who[i])) {
					action = tick(&who[i], now);
				}
				if (action == LEADERSHIP_ACTION_NONE)
					continue;
				assert_int_equal(flight->action, LEADERSHIP_ACTION_NONE);
				*flight = (struct flight){ .action = action,
							   .write = who[i].write,
							   .arrives_us = now + (random >> 8) % S,
							   .lost = (random >> 20) % 4 == 0 };
				flight->answers_us = flight->arrives_us + (random >> 12) % S;
			}
			assert_false(leadership_leads(&who[0], now) &&
				     leadership_leads(&who[1], now));
			led += leadership_leads(&who[0], now) || leadership_leads(&who[1], now);
		}
		assert_true(led > 1000); /* of 2380: somebody mostly does */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deadline_counts_from_sending_not_from_the_answer),
		cmocka_unit_test(test_renewal_that_is_refused_ends_at_the_deadline),
		cmocka_unit_test(test_follower_waits_for_what_it_saw_not_for_what_is_written),
		cmocka_unit_test(test_lease_that_was_given_back_is_taken_at_once),
		cmocka_unit_test(test_watch_that_lags_does_not_depose),
		cmocka_unit_test(test_another_holder_deposes_whatever_the_clock_says),
		cmocka_unit_test(test_unclear_write_is_read_before_the_next),
		cmocka_unit_test(test_what_is_read_is_believed_though_versions_went_back),
		cmocka_unit_test(test_release_gives_back_and_never_leads_again),
		cmocka_unit_test(test_two_never_lead_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
