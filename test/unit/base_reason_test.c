/* The one vocabulary: words and MESSAGE_IDs are what users alert on. */
#include <ctype.h>
#include <string.h>

#include "base/reason.h"
#include "test/unit/unit.h"

/* api.md names these; a word that is missing or renamed breaks somebody's alert. */
static const char *const promised[] = {
	"AddressAllocated",
	"AddressReleased",
	"AddressMoved",
	"PoolExhausted",
	"QuotaExceeded",
	"AddressNotInPool",
	"AddressInUse",
	"AddressReserved",
	"SharingRefused",
	"PoolNotFound",
	"UnsupportedFeature",
	"InvalidConfiguration",
	"OwnerElected",
	"OwnerLost",
	"OwnerResigned",
	"Handover",
	"Rebalanced",
	"Deposed",
	"FenceExpired",
	"Overslept",
	"QuorumLost",
	"GatewayUnreachable",
	"LinkDown",
	"APIUnreachable",
	"Maintenance",
	"FlapHeldDown",
	"NotOnSegment",
	"NoEligibleNode",
	"NoEndpoints",
	"ForeignAddress",
	"ForeignVirtualRouter",
	"SplitBrainResolved",
	"DrillStarted",
	"DrillSucceeded",
	"DrillFailed",
	"DrillRefused",
};

static void test_every_promised_word_is_there(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(promised); i++) {
		bool found = false;

		for (int reason = 1; reason < BASE_REASON_COUNT; reason++)
			found |= strcmp(base_reason_word((enum base_reason)reason), promised[i]) ==
				 0;
		ASSERT_ROW(promised[i], found);
	}
}

static void test_words_and_ids_are_well_formed_and_unique(void **state)
{
	(void)state;
	for (int i = 1; i < BASE_REASON_COUNT; i++) {
		const struct base_reason_info *info = base_reason_info((enum base_reason)i);

		/* Kubernetes: UpperCamelCase, at most 128 characters of an Event's reason. */
		ASSERT_ROW(info->word, isupper((unsigned char)info->word[0]));
		ASSERT_ROW(info->word, strlen(info->word) < 64);
		for (const char *c = info->word; *c; c++)
			ASSERT_ROW(info->word, isalnum((unsigned char)*c));
		/* systemd: 128 bits as hex, lower case. */
		ASSERT_ROW(info->word, strlen(info->message_id) == 32);
		ASSERT_ROW(info->word, strspn(info->message_id, "0123456789abcdef") == 32);
		for (int j = 1; j < i; j++) {
			const struct base_reason_info *other =
				base_reason_info((enum base_reason)j);

			ASSERT_ROW(info->word, strcmp(info->word, other->word) != 0);
			ASSERT_ROW(info->word, strcmp(info->message_id, other->message_id) != 0);
		}
	}
}

static void test_every_reason_says_what_it_means_and_what_to_do(void **state)
{
	(void)state;
	for (int i = 1; i < BASE_REASON_COUNT; i++) {
		const struct base_reason_info *info = base_reason_info((enum base_reason)i);

		ASSERT_ROW(info->word, strlen(info->meaning) > 10);
		ASSERT_ROW(info->word, info->meaning[strlen(info->meaning) - 1] == '.');
		ASSERT_ROW(info->word, info->remedy[strlen(info->remedy) - 1] == '.');
		/* A warning with nothing to do would be noise. */
		if (info->severity == BASE_SEVERITY_WARNING)
			ASSERT_ROW(info->word, strcmp(info->remedy, "Nothing to do.") != 0);
	}
}

static void test_no_reason_and_nonsense_are_none(void **state)
{
	(void)state;
	assert_string_equal(base_reason_word(BASE_REASON_NONE), "None");
	assert_string_equal(base_reason_word(BASE_REASON_COUNT), "None");
	assert_string_equal(base_reason_word((enum base_reason)77777), "None");
	assert_string_equal(base_reason_info(BASE_REASON_NONE)->message_id, "");
	assert_true(BASE_REASON_COUNT < 256); /* one byte in the protocol */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_promised_word_is_there),
		cmocka_unit_test(test_words_and_ids_are_well_formed_and_unique),
		cmocka_unit_test(test_every_reason_says_what_it_means_and_what_to_do),
		cmocka_unit_test(test_no_reason_and_nonsense_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
